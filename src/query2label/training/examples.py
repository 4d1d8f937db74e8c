"""The picture of a model card: a few validation images, with where the model looked."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from jaxtyping import Float, Int8

from query2label.bundle import Bundle
from query2label.data.samples import Dataset
from query2label.errors import ImageError
from query2label.inference.explanation import Explanation
from query2label.inference.predictor import Predictor
from query2label.inference.sheet import label_grid
from query2label.inference.torch_runtime import TorchRuntime
from query2label.models.query2label import Query2Label
from query2label.training.plan import Indices

_MAX_EXAMPLES: Final = 6
_MAX_BYTES: Final = 200_000
_QUALITIES: Final = (85, 70, 55, 40, 25)


def draw_examples(
    model: Query2Label,
    bundle: Bundle,
    data: Dataset,
    indices: Indices,
    scores: Float[np.ndarray, "n K"],
    targets: Int8[np.ndarray, "n K"],
) -> bytes | None:
    """A JPEG file of at most 200 kB; None where no label is shown by an image that can be read.

    Args:
        model: With the weights to explain.
        bundle: What it is.
        data: The validation images.
        indices: Which of them were scored, in the order of the rows below.
        scores: Of these images.
        targets: Of these images.
    """
    predictor = Predictor(bundle, TorchRuntime(model, device=str(next(model.parameters()).device)))
    pairs = []
    for label, row in typical_images(scores, targets):
        sample = data.samples[int(indices[row])]
        name = bundle.labels[label]
        try:
            pairs.append((predictor.explain(sample.image_source(), labels=[name]), name))
        except ImageError:  # gone since it was scored
            continue
    return _as_jpeg(pairs) if pairs else None


def typical_images(
    scores: Float[np.ndarray, "n K"], targets: Int8[np.ndarray, "n K"]
) -> list[tuple[int, int]]:
    """(label, row) of the labels that most images show, each with the image of median score that shows it.

    At most six; an image is taken once, where there are others.
    """
    shown = (targets == 1).sum(axis=0)
    chosen: dict[int, int] = {}
    for label in np.argsort(-shown, kind="stable")[:_MAX_EXAMPLES].tolist():
        rows = np.flatnonzero(targets[:, label] == 1)
        ordered = rows[np.argsort(scores[rows, label], kind="stable")].tolist()
        middle = (len(ordered) - 1) / 2
        nearest = sorted(range(len(ordered)), key=lambda place: abs(place - middle))
        fresh = [place for place in nearest if ordered[place] not in chosen.values()] or nearest
        if fresh:
            chosen[label] = ordered[fresh[0]]
    return list(chosen.items())


def _as_jpeg(pairs: list[tuple[Explanation, str]]) -> bytes:
    picture = label_grid(pairs)
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= _MAX_BYTES:
            break
    return file.getvalue()
