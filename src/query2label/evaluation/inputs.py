"""Which model, and which images: what an evaluation is asked to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from query2label.bundle import Bundle, resolve_bundle_path
from query2label.data.annotation_files import split_name
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.errors import ConfigError, DataError
from query2label.evaluation.scoring import Scorer
from query2label.formats import DataFormatOrAuto, Difficult
from query2label.models.build import load_model


@runtime_checkable
class PredictorLike(Protocol):
    """What has a bundle and computes logits with a runtime, as `query2label.Predictor`."""

    @property
    def bundle(self) -> Bundle:
        """What the model is."""
        ...

    @property
    def runtime(self) -> Scorer:
        """What computes its logits."""
        ...


Evaluable = PredictorLike | nn.Module | Scorer | str | Path


def resolve_model(model: Evaluable, bundle: Bundle | None = None) -> tuple[Scorer, Bundle]:
    """What computes the logits, and what says how to read them.

    Args:
        model: A bundle folder or hub id, a `Predictor`, a `Query2Label`, or a callable.
        bundle: Takes the place of the model's own.

    Raises:
        ConfigError: If neither is there.
    """
    if isinstance(model, str | Path):
        model = load_model(resolve_bundle_path(model)).optimize_for_inference()
    own = bundle or getattr(model, "bundle", None)
    if not isinstance(own, Bundle):
        raise ConfigError(
            "Nothing says which labels and preprocessing this model has: give evaluate(..., bundle=...)."
        )
    if isinstance(model, nn.Module):
        return torch_scorer(model), own
    return (model.runtime if isinstance(model, PredictorLike) else model), own


def torch_scorer(model: nn.Module) -> Scorer:
    """Logits of a module, on its own device, in evaluation mode and without gradients; its mode is kept."""

    def score(images: np.ndarray) -> np.ndarray:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                logits: torch.Tensor = model(torch.from_numpy(images).to(device))
        finally:
            model.train(was_training)
        return np.asarray(logits.float().cpu().numpy())

    return score


def resolve_data(
    data: Dataset | Path | str,
    bundle: Bundle,
    *,
    split: str | None,
    preferred: Sequence[str],
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
    image_root: Path | str | None = None,
    difficult: Difficult = "ignore",
    hint: str = "choose one",
) -> tuple[Dataset, str]:
    """The images to look at, with the model's labels, and in words which they are.

    Args:
        data: A data set, or where to read it.
        bundle: Whose labels count.
        split: The split that was asked for.
        preferred: Splits to take where none was asked for, best first.
        format: Layout of the data at a path.
        image_root: Folder of the images, where they do not lie beside the labels at a path.
        difficult: What objects marked difficult (PASCAL VOC) at a path make of their label.
        hint: What to say where the data have none of the preferred splits.

    Returns:
        The samples, and their description; it may be published, so there is no path in it.

    Raises:
        DataError: If the data set has other labels than the model, or there is no such split, or one without
            labels.
    """
    taken = "as the data set was read"
    if not isinstance(data, Dataset):
        taken = difficult
        data = load_dataset(
            data,
            format=format,
            split=split,
            labels=bundle.label_set,
            image_root=image_root,
            difficult=difficult,
        )
    if data.labels != bundle.label_set:
        raise DataError(
            f"{data.source} was read with other labels than the model's, or in another order: "
            "read it with load_dataset(..., labels=bundle.label_set)."
        )
    splits = data.splits()
    present = f"it has {', '.join(splits)}" if splits else "it has no splits"
    chosen = (
        next((name for name in preferred if name in splits), None) if split is None else split_name(split)
    )
    if chosen is None:
        if splits:
            raise DataError(f"{data.source} has no split {' or '.join(preferred)}: {present}; {hint}.")
        return data, _described("all images", data, taken)
    part = data.select(chosen)
    if not len(part):
        raise DataError(f"{data.source} has no split {split!r}: {present}.")
    if all(len(sample.unknown) == len(part.labels) for sample in part.samples):
        raise DataError(
            f"Nothing says the labels of split {chosen} of {data.source}, so it can be predicted "
            f"(q2l predict --split {chosen}), but not evaluated."
        )
    return part, _described(f"split {chosen}", data, taken)


def _described(images: str, data: Dataset, difficult: str) -> str:
    return f"{images} of {data.source.name} ({data.format}{difficult_words(data, difficult)})"


def difficult_words(data: Dataset, difficult: str) -> str:
    """What objects marked difficult were taken for, to follow other words; empty where the data have none."""
    return f", difficult objects: {difficult}" if data.format == "voc" else ""
