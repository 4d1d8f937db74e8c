"""Which images a run learns from, and which it is judged by."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace

import numpy as np

from query2label.config import DataConfig
from query2label.data.annotation_files import split_name
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.data.split import stratified_split
from query2label.errors import ConfigError, DataError
from query2label.labels import UNKNOWN

FALLBACK_SPLIT = "test"


@dataclass(frozen=True)
class RunData:
    """Training and validation images with the same labels."""

    train: Dataset
    val: Dataset
    made_split: Dataset | None = None
    """All images with their splits, where the split was made here because the data have none."""
    warnings: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 over labels, image names and targets; not over pixels, nor over where the folder lies."""
        content = hashlib.sha256(json.dumps(self.train.labels.names).encode())
        samples = [*self.train.samples, *self.val.samples]
        root = os.path.commonpath([sample.path.parent for sample in samples])
        for sample in samples:
            name = os.path.relpath(sample.path, root)
            content.update(json.dumps([name, sample.positive, list(sample.unknown)]).encode())
        content.update(str(len(self.train)).encode())
        return content.hexdigest()


def load_run_data(config: DataConfig, *, seed: int) -> RunData:
    """The training and validation images of a run.

    Where the data have no validation split, `test` is taken, with a warning; where they have no splits at
    all, a stratified part is held out. Where they have no `train` or `val`, but `trainval`, that is learned
    from.

    Args:
        config: Path, format and names of the splits.
        seed: Of the held-out part.

    Raises:
        ConfigError: If no data are named, or the splits share images by their names.
        DataError: If a split is missing, or nothing can be learned or judged.
    """
    path = config.path
    if path is None:
        raise ConfigError("No data are named: give --data (or data.path in the recipe).")
    names = {name: split_name(getattr(config, name)) for name in ("train_split", "val_split")}
    config = config.model_copy(update=names)
    if config.train_split == config.val_split:
        raise ConfigError(f"data.train_split and data.val_split are both {config.val_split!r}.")
    if "trainval" in names.values() and {"train", "val"} & set(names.values()):
        raise ConfigError(
            "data.train_split and data.val_split share images, as trainval is train and val together: with "
            "data.train_split=trainval give data.val_split=test."
        )
    dataset = load_dataset(
        path, format=config.format, difficult=config.difficult, image_root=config.image_root
    )
    if config.labelled_only:
        dataset = _labelled(dataset)
    data = _split(dataset, config, seed=seed)
    for name, part in (("training", data.train), ("validation", data.val)):
        targets = part.targets()
        if not np.isin(targets, (0, 1, UNKNOWN)).all():
            raise DataError(f"The {name} targets of {config.path} are not all 1, 0 or {UNKNOWN} (unknown).")
        if not (targets == 1).any():
            raise DataError(
                f"No {name} image of {config.path} shows any label: a model needs positives to learn from "
                "and to be judged by."
            )
    return data


def _split(dataset: Dataset, config: DataConfig, *, seed: int) -> RunData:
    splits = dataset.splits()
    if not splits:
        return _hold_out(dataset, config, seed=seed)
    if config.train_split == "train" and "trainval" in splits and not {"train", "val"} & {*splits}:
        # VOC with no other lists than those of the papers.
        config = config.model_copy(update={"train_split": "trainval"})
    train = dataset.select(config.train_split)
    if not train.samples:
        raise DataError(
            f"{config.path} has no split {config.train_split!r}: it has {', '.join(splits)}; "
            "name one with --set data.train_split=NAME."
        )
    val = dataset.select(config.val_split)
    if val.samples:
        return RunData(train, val)
    learned = {"train", "val", "trainval"} if config.train_split == "trainval" else {config.train_split}
    others = [name for name in splits if name not in learned]
    similar = [name for name in others if name.startswith(config.val_split)]
    if similar or (others and FALLBACK_SPLIT not in others):
        # Nobody wants a part of train2017 held out with val2017 beside it.
        raise DataError(
            f"{config.path} has no split {config.val_split!r}, but {' and '.join(similar or others)}: name "
            "the one that is meant with --set data.val_split=NAME."
        )
    if FALLBACK_SPLIT in others:
        warning = (
            f"There is no split {config.val_split!r}: the test images choose the best epoch and the "
            "thresholds, so the results on them are a little too good."
        )
        return RunData(train, dataset.select(FALLBACK_SPLIT), warnings=(warning,))
    return _hold_out(train, config, seed=seed)


def _labelled(dataset: Dataset) -> Dataset:
    samples = [sample for sample in dataset.samples if sample.positive]
    left_out = len(dataset) - len(samples)
    note = f"Images without a label, left out: {left_out:,} of {len(dataset):,} (data.labelled_only)."
    return replace(dataset, samples=samples, notes=[*dataset.notes, *([note] if left_out else ())])


def _hold_out(dataset: Dataset, config: DataConfig, *, seed: int) -> RunData:
    # What is held out of trainval is not to be found in it again.
    learned = "train" if config.train_split == "trainval" else config.train_split
    fractions = {learned: 1 - config.val_fraction, config.val_split: config.val_fraction}
    whole = stratified_split(dataset, fractions, seed=seed)
    return RunData(whole.select(learned), whole.select(config.val_split), made_split=whole)
