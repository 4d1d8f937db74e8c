"""Maps of a feature map's cells, laid over the image and coloured."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from query2label.preprocess import PreprocessSpec, resize_geometry

MAX_SHOWN_PX: Final = 2048
"""Longer side of the largest pictures and maps that are written."""
SMALLEST_SPREAD: Final = 1e-3
"""Of a map's values, relative to the largest; less is rounding, not looking."""
_FULL_SPREAD: Final = 0.25
"""Of a map's values, relative to the largest, from which on pictures use the full range of colours."""

# Nine points of the perceptually uniform map "inferno" (CC0): dark violet, red, orange, pale yellow.
_INFERNO: Final = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (188, 55, 84),
        (227, 89, 51),
        (249, 142, 9),
        (249, 203, 53),
        (252, 255, 164),
    ],
    dtype=np.float64,
)


def map_on_image(
    cells: Float[np.ndarray, "h w"],
    image_size: tuple[int, int],
    spec: PreprocessSpec,
    *,
    shown: tuple[int, int],
) -> Float32[np.ndarray, "H W"]:
    """One map, put back through the resizing of `preprocess` and scaled to a maximum of 1.

    Args:
        cells: One value per cell of the feature map, which covers the model's input.
        image_size: (height, width) of the image as displayed.
        spec: How it became the model's input.
        shown: (height, width) of the map that is given.
    """
    geometry = resize_geometry(image_size, spec)
    rows, columns = cells.shape
    scale_x, scale_y = columns / spec.image_size[1], rows / spec.image_size[0]
    left, top, right, bottom = geometry.input_box
    box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    zoom_x, zoom_y = shown[1] / image_size[1], shown[0] / image_size[0]
    left, top = round(geometry.image_box[0] * zoom_x), round(geometry.image_box[1] * zoom_y)
    right, bottom = round(geometry.image_box[2] * zoom_x), round(geometry.image_box[3] * zoom_y)
    seen = Image.fromarray(np.asarray(cells, dtype=np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR, box=box
    )
    canvas = Image.new("F", (shown[1], shown[0]), 0.0)
    canvas.paste(seen, (left, top))
    heat = np.array(canvas, dtype=np.float32)
    return heat / max(float(heat.max()), float(np.finfo(np.float32).tiny))


def drawn_map(
    cells: Float[np.ndarray, "h w"],
    image_size: tuple[int, int],
    spec: PreprocessSpec,
    *,
    shown: tuple[int, int],
) -> Float32[np.ndarray, "H W"]:
    """As `map_on_image`, as pictures show it: from the map's least place, 0, to its most, 1.

    What is nearly the same everywhere stays below 1, so that it does not look like a place.
    """
    heat = map_on_image(stretched(cells), image_size, spec, shown=shown)
    least, most = float(cells.min()), float(cells.max())
    return heat * min(1.0, (most - least) / (_FULL_SPREAD * most)) if most > 0 else heat


def heat_colours(heat: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Values in [0, 1] as colours from nearly black over red to pale yellow."""
    stops = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(heat, stops, _INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(image: Image.Image, heat: Float[np.ndarray, "H W"]) -> Image.Image:
    """The image with a map over it: grey and dimmed where there is little, glowing where there is much.

    Args:
        image: RGB, of the map's size.
        heat: Values in [0, 1].
    """
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] * 0.62
    colour = np.asarray(image, dtype=np.float32)
    strength = heat[..., None].astype(np.float32)
    base = grey + (colour - grey) * np.sqrt(strength)
    opacity = 0.62 * strength**0.75
    mixed = base * (1 - opacity) + heat_colours(heat) * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def stretched(heat: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The map from its least value, 0, to its most, 1, so that soft attention can be told apart as well.

    A map that is the same everywhere becomes 0.
    """
    least, most = float(heat.min()), float(heat.max())
    return (heat - least) / (most - least) if most - least > SMALLEST_SPREAD * most else np.zeros_like(heat)
