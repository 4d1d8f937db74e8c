"""Runs a model over labelled images: the logits, the targets, and which images could not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int8, Int64

from query2label.config import DataConfig
from query2label.data.loaders import EvalBatches
from query2label.data.samples import Dataset
from query2label.errors import BundleError, DataError
from query2label.preprocess import PreprocessSpec

Scorer = Callable[[np.ndarray], np.ndarray]
"""Normalized images (B, 3, H, W), float32 -> logits (B, K)."""

Progress = Callable[[int, int], object]
"""Told the number of images done and the number of all, after each batch."""


@dataclass(frozen=True)
class ScoredImages:
    """Logits beside targets, for the images that could be read."""

    logits: Float32[np.ndarray, "n K"]
    targets: Int8[np.ndarray, "n K"]
    indices: Int64[np.ndarray, " n"]
    """Which sample of the data set each row is."""
    broken: dict[str, str]
    """Path -> reason of the images that could not be read."""


def score_images(
    scorer: Scorer,
    dataset: Dataset,
    spec: PreprocessSpec,
    *,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: Progress | None = None,
    needs_all: str | None = None,
) -> ScoredImages:
    """The logits of all images of a data set, in its order.

    Args:
        scorer: Any callable from normalized images to logits.
        dataset: Labelled images; the scorer's outputs are its labels, in order.
        spec: How pixels become the scorer's input.
        batch_size: Images per call.
        num_workers: Processes that decode images; 0 decodes in this one.
        progress: Told after each batch.
        needs_all: Who cannot do without any image, for the sentence that refuses the first broken one.

    Returns:
        Logits and targets; broken images are left out and named.

    Raises:
        DataError: If no image could be read, or one could not that is needed.
        BundleError: If the scorer gives logits of a wrong shape, or any that is not finite.
    """
    num_images, num_labels = len(dataset), len(dataset.labels)
    logits = np.empty((num_images, num_labels), dtype=np.float32)
    indices = np.empty(num_images, dtype=np.int64)
    batches = EvalBatches(
        dataset,
        spec,
        batch_size=batch_size,
        num_workers=num_workers,
        timeout_seconds=DataConfig().worker_timeout_seconds,
    )
    done = 0
    for batch in batches:
        if needs_all is not None:
            _refuse_broken(batches.broken.to_dict(), needs_all)
        part = np.asarray(scorer(batch.images.numpy()))
        if part.shape != (len(batch.indices), num_labels):
            raise BundleError(
                f"The model gives logits of shape {part.shape} for {len(batch.indices)} images and "
                f"{num_labels} labels: it does not belong to these labels."
            )
        if not np.isfinite(part).all():
            first = int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            path = dataset.samples[int(batch.indices[first])].path
            raise BundleError(f"The model gives logits that are not finite for {path}: it cannot be used.")
        logits[done : done + len(part)], indices[done : done + len(part)] = part, batch.indices
        done += len(part)
        if progress is not None:
            progress(done + len(batches.broken), num_images)
    if needs_all is not None:
        _refuse_broken(batches.broken.to_dict(), needs_all)
    if not done:
        broken = [f"{path}: {reason}" for path, reason in batches.broken.to_dict().items()]
        raise DataError(
            f"No image of {dataset.source} could be read ({broken[0] if broken else 'there are none'}): "
            f"run `q2l data check {dataset.source}`."
        )
    targets = dataset.targets()[indices[:done]]
    return ScoredImages(logits[:done], targets, indices[:done], batches.broken.to_dict())


def _refuse_broken(broken: dict[str, str], needs_all: str) -> None:
    if broken:
        path, reason = next(iter(broken.items()))
        raise DataError(f"{needs_all} needs every image, and {path} cannot be read: {reason.rstrip('.')}.")
