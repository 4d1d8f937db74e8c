"""Does an exported file give the scores of the model that it was made from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from query2label.bundle import bundle_digest
from query2label.bundle.artefact import Artefact
from query2label.errors import DataError, ExportError, ImageError
from query2label.export.example_images import example_images
from query2label.export.int8 import TradeOff
from query2label.formats import ExportPrecision, RuntimeName
from query2label.inference.runtime import Runtime
from query2label.inference.runtimes import load_exported
from query2label.models.build import load_model
from query2label.models.query2label import Query2Label
from query2label.preprocess import ImageSource, PreprocessSpec, preprocess

TOLERANCES: Final[dict[ExportPrecision, float]] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.5}
"""How far a score, in [0, 1], may be from that of the model in float32; int8 is held to its mAP as well."""
BATCH_SIZES: Final = (1, 2, 5)


@dataclass(frozen=True)
class Verification:
    """How an exported file compares with its model; a label can only differ near its threshold."""

    precision: ExportPrecision
    """Of the export."""
    max_difference: float
    """Largest difference of a score over images, labels and batch sizes; NaN if one is not a number."""
    num_images: int
    """Images that were compared."""
    num_same_labels: int
    """Images with the same predicted labels, whatever the batch size."""
    trade_off: TradeOff | None = None
    """Of a quantized model: what was measured on labelled images."""

    @property
    def tolerance(self) -> float:
        """The largest difference that is accepted."""
        return TOLERANCES[self.precision]

    @property
    def passed(self) -> bool:
        """Whether every score is within the tolerance, and the mAP of a quantized model within its bound."""
        kept = self.trade_off is None or self.trade_off.passed
        return kept and self.max_difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"scores differ from torch in float32 by up to {self.max_difference:.1e} ({self.tolerance:g} is "
            f"tolerated for {self.precision}), predicted labels agree on {self.num_same_labels} of "
            f"{self.num_images} images, in batches of {', '.join(map(str, BATCH_SIZES))}"
            + ("" if self.trade_off is None else f"; {self.trade_off}")
        )


def verify_export(
    path: Path | str,
    bundle_path: Path,
    *,
    images: Sequence[ImageSource] = (),
    runtime: RuntimeName = "auto",
    threads: int | None = None,
) -> Verification:
    """Compares an exported ONNX or OpenVINO file with its bundle in float32 torch.

    Args:
        path: The file.
        bundle_path: The bundle folder.
        images: Photos to compare on; none: generated ones.
        runtime: What runs the file.
        threads: Of that runtime.

    Returns:
        What was found, passed or not.

    Raises:
        ExportError: If the file was made from another bundle, or from this one before it was changed.
    """
    exported = load_exported(Path(path), runtime, threads=threads)
    if exported.artefact.bundle_digest != bundle_digest(bundle_path):
        raise ExportError(
            f"{path} was made from another bundle than {bundle_path}, or that has changed: export again."
        )
    return compare(exported, load_model(bundle_path), exported.artefact, images)


def compare(
    runtime: Runtime, model: Query2Label, artefact: Artefact, images: Sequence[ImageSource] = ()
) -> Verification:
    """Compares what a runtime computes with a model of a bundle, in float32.

    Args:
        runtime: What was exported.
        model: The model, with its `bundle`.
        artefact: How it was exported; one that takes any image size is tried with another one as well.
        images: Photos to compare on; none: generated ones.

    Raises:
        ExportError: If the model has no bundle.
    """
    if model.bundle is None:
        raise ExportError(
            "This model has no bundle to be compared by: take one from Query2Label.from_pretrained."
        )
    height, width = model.bundle.preprocess.image_size
    sizes = [(height, width), (height, 2 * width)] if artefact.any_image_size else [(height, width)]
    difference, same = 0.0, np.ones(len(images) or len(example_images()), dtype=bool)
    for size in sizes:
        spec = model.bundle.preprocess.model_copy(update={"image_size": size})
        pixels = _pixels(images or example_images(), spec)
        expected = model.bundle.scores(_in_batches(_torch_runtime(model), pixels, 1))
        for batch_size in BATCH_SIZES:
            scores = model.bundle.scores(_in_batches(runtime, pixels, batch_size))
            difference = float(np.maximum(difference, np.abs(scores - expected).max()))  # keeps NaN
            same &= (model.bundle.predicted(scores) == model.bundle.predicted(expected)).all(axis=1)
    return Verification(artefact.precision, difference, len(same), int(same.sum()))


def _pixels(images: Sequence[ImageSource], spec: PreprocessSpec) -> Float[np.ndarray, "n 3 H W"]:
    """The model's input for images.

    Raises:
        DataError: If one cannot be read.
    """
    rows = []
    for image in images:
        try:
            rows.append(preprocess(image, spec))
        except ImageError as error:
            name = image if isinstance(image, str | Path) else "an image"
            raise DataError(f"Cannot verify the export on {name}: {error}") from None
    return np.stack(rows)


def _in_batches(
    runtime: Runtime, pixels: Float[np.ndarray, "n 3 H W"], batch_size: int
) -> Float[np.ndarray, "n K"]:
    starts = range(0, len(pixels), batch_size)
    return np.concatenate([np.asarray(runtime(pixels[start : start + batch_size])) for start in starts])


def _torch_runtime(model: Query2Label) -> Runtime:
    """The model as it is, not optimized: what an export must agree with."""

    @torch.inference_mode()
    def score(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = model(torch.from_numpy(images)).numpy()
        return logits

    return score
