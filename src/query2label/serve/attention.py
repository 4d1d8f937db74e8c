"""Where the model looked, small enough for an answer: one grey PNG per label."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from query2label.inference.heat import drawn_map
from query2label.inference.runtime import AttentiveRuntime, ExportedRuntime, Runtime
from query2label.preprocess import PreprocessSpec

MAX_MAPS: Final = 16
"""Maps of one image in an answer, at most."""
_LONGER_SIDE: Final = 192
"""Of a map, in pixels; it is smooth, so whoever shows it can enlarge it."""


def attention_pngs(
    maps: Mapping[str, Float32[np.ndarray, "h w"]], image_size: tuple[int, int], spec: PreprocessSpec
) -> dict[str, str]:
    """By label, a grey PNG in base64 that covers the image as displayed, from 0 (least) to 255 (most).

    What hardly differs from place to place stays below 255.

    Args:
        maps: Attention by label, one value per cell of the feature map; the first `MAX_MAPS` are taken.
        image_size: (height, width) of the image as displayed.
        spec: How it became the model's input.
    """
    scale = min(1.0, _LONGER_SIDE / max(image_size))
    shown = (max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale)))
    return {
        label: _png(drawn_map(attention, image_size, spec, shown=shown))
        for label, attention in islice(maps.items(), MAX_MAPS)
    }


def why_no_attention(runtime: Runtime) -> str | None:
    """Why this model cannot say where it looked; None where it can."""
    if isinstance(runtime, AttentiveRuntime) and runtime.has_attention:
        return None
    if isinstance(runtime, ExportedRuntime):
        return "This model was exported without attention maps; `q2l export --attention` adds them."
    return "The head of this model has no attention maps."


def _png(heat: Float[np.ndarray, "H W"]) -> str:
    file = io.BytesIO()
    Image.fromarray((heat * 255).round().astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
