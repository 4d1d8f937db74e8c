"""Small pictures for a page, each with maps of where models looked for the labels it is shown for."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image

from query2label.data.samples import Sample
from query2label.errors import ConfigError, ImageError
from query2label.evaluation.scoring import Progress
from query2label.inference.explanation import METHOD_NAMES, Explanation
from query2label.inference.heat import heat_colours
from query2label.inference.looking import explain_image
from query2label.inference.predictor import Predictor
from query2label.preprocess import load_image
from query2label.report.embedded import encoded_bytes

PICTURE_PX: Final = 208
"""Longer side of a picture."""
MAP_PX: Final = 26
"""Longer side of a map, which the page draws over the picture, smoothly enlarged."""
_QUALITY: Final = 68


def encoded_pictures(
    samples: Mapping[int, Sample],
    labels: Mapping[int, Sequence[str]],
    predictors: Sequence[Predictor],
    *,
    progress: Progress | None = None,
) -> dict[int, dict[str, Any]]:
    """Pictures by row: a data URI, the size, and by model the maps by label, bytes in base64.

    Args:
        samples: The images, by row.
        labels: Which labels each is shown for.
        predictors: The models; one that cannot say where it looked gives no maps.
        progress: Told (pictures done, pictures).
    """
    pictures = {}
    for done, (row, sample) in enumerate(samples.items(), start=1):
        try:
            image = load_image(sample.image_source())
        except ImageError:  # it could be read when it was scored, and is gone: the page does without
            continue
        pictures[row] = _picture(image) | {
            "maps": [_maps(predictor, image, labels[row]) for predictor in predictors]
        }
        if progress is not None:
            progress(done, len(samples))
    return pictures


def palette() -> list[str]:
    """The 256 colours of a map, as CSS has them."""
    colours = heat_colours(np.linspace(0, 1, 256)[None])[0]
    return ["#" + bytes(colour).hex() for colour in colours]


def _picture(image: Image.Image) -> dict[str, Any]:
    small = image.copy()
    small.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS, reducing_gap=3.0)
    file = io.BytesIO()
    small.save(file, format="WEBP", quality=_QUALITY, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return {"uri": uri, "width": small.width, "height": small.height}


def _maps(predictor: Predictor, image: Image.Image, labels: Sequence[str]) -> dict[str, Any]:
    """The maps by label, what they are and their size; empty where the model cannot say where it looked."""
    try:
        explanation = explain_image(predictor, image, labels=labels)
    except ConfigError:
        return {}
    height, width = _map_size(image)
    by_label = {label: _map(explanation, label, (height, width)) for label in labels}
    method = METHOD_NAMES[explanation.method]
    return {"method": method, "height": height, "width": width, "by_label": by_label}


def _map(explanation: Explanation, label: str, size: tuple[int, int]) -> str:
    return encoded_bytes(explanation.drawn_on_image(label, size))


def _map_size(image: Image.Image) -> tuple[int, int]:
    scale = MAP_PX / max(image.size)
    return max(1, round(image.height * scale)), max(1, round(image.width * scale))
