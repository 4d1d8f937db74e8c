"""Choosing labels anew by the scores or logits that `q2l predict` wrote: no image is looked at again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from query2label.bundle import Bundle
from query2label.errors import ConfigError, DataError
from query2label.inference.choice import LabelChoice
from query2label.inference.outputs import save_predictions
from query2label.inference.parts import Choice, PartFolder
from query2label.inference.prediction import Prediction
from query2label.inference.saved_rows import FORMS, saved_labels, saved_predictions


def rethreshold(
    source: Path,
    out: Path,
    *,
    bundle: Bundle | None = None,
    digest: str | None = None,
    threshold: float | Mapping[str, float] | None = None,
) -> int:
    """Writes predictions again with labels by other thresholds.

    A source that cannot be read is a `DataError`, an unknown label as well, a threshold out of range a
    `ConfigError`, a refused write a `StorageError`.

    Args:
        source: A file of predictions, or a folder of parts that is finished.
        out: A file, or a folder of parts, as `source` is; a folder goes on where it was stopped.
        bundle: The model with other thresholds or another temperature: scores are computed anew from the
            logits. Unset: the scores are taken as they are.
        digest: `model_digest` of that model.
        threshold: As for `Predictor`; without a bundle, for all labels.

    Returns:
        The number of images.

    Raises:
        ConfigError: If `out` is not what `source` is, or there is no threshold for a label.
        DataError: If there is no source.
    """
    if not source.exists():
        raise DataError(f"There is no file or folder {source}.")
    if source.is_dir():
        parts = PartFolder.finished(source)
        manifest = parts.manifest
        choice = _choice(source, manifest.choice.labels, bundle, threshold)
        changed = manifest.model_copy(
            update={"choice": Choice.model_validate(choice.to_dict()), "model": digest or manifest.model}
        )
        folder = PartFolder.begin(out, changed)
        folder.remove_leftovers()
        for number in folder.missing():
            _rewrite(parts.part_path(number), folder.part_path(number), choice, bundle, manifest.keep_logits)
        return manifest.num_images
    for path in (source, out):
        if path.suffix.removeprefix(".") not in FORMS:
            raise ConfigError(
                f"{path} is no file of predictions: its name has to end with .jsonl, .csv or .parquet."
            )
    labels = saved_labels(source)
    keep_logits = any(prediction.logits for prediction in saved_predictions(source, labels))
    return _rewrite(source, out, _choice(source, labels, bundle, threshold), bundle, keep_logits)


def _rewrite(source: Path, out: Path, choice: LabelChoice, bundle: Bundle | None, keep_logits: bool) -> int:
    """Writes one file, and gives the number of its images."""
    num_images = 0

    def chosen() -> Iterator[Prediction]:
        nonlocal num_images
        for prediction in saved_predictions(source, choice.labels):
            num_images += 1
            yield _chosen(prediction, choice, bundle, source)

    save_predictions(chosen(), out, choice.labels, form=out.suffix.removeprefix("."), keep_logits=keep_logits)
    return num_images


def _chosen(prediction: Prediction, choice: LabelChoice, bundle: Bundle | None, source: Path) -> Prediction:
    if prediction.error is not None:
        return prediction
    scores = np.fromiter(prediction.scores.values(), dtype=np.float32)
    logits = np.fromiter(prediction.logits.values(), dtype=np.float32) if prediction.logits else None
    if bundle is not None:
        if logits is None:
            raise DataError(f"{source} has no logits: predict with --keep-logits, or give --threshold alone.")
        scores = bundle.scores(logits[None])[0]
    return choice.prediction(scores, source=prediction.source, logits=logits)


def _choice(
    source: Path,
    labels: tuple[str, ...],
    bundle: Bundle | None,
    threshold: float | Mapping[str, float] | None,
) -> LabelChoice:
    if bundle is None:
        if threshold is None or (isinstance(threshold, Mapping) and set(threshold) != set(labels)):
            raise ConfigError(
                "Give --model with thresholds for the labels that --threshold does not name, or one "
                "--threshold for all."
            )
        return LabelChoice.by_thresholds(labels, threshold)
    if bundle.labels != labels:
        raise DataError(f"{source} has other labels than this model: it was written with another one.")
    return LabelChoice.of(bundle, threshold=threshold)
