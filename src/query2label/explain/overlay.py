"""Pictures of attention: a heat overlay for one label, and a sheet of an image with its labels."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from query2label.explain.attention import Explanation
from query2label.inference.drawing import GREY, INK, PAPER, LabelScore, draw_line, draw_score, draw_tick, font

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
SMALLEST_SPREAD: Final = 1e-3
"""Of a map's values, relative to the largest; less is rounding, not looking."""
_PANEL_WIDTH: Final = 380
_MAX_PANEL_HEIGHT: Final = 520
_MARGIN: Final = 24
_CAPTION_HEIGHT: Final = 74
_HEADER_HEIGHT: Final = 40
_LEGEND_HEIGHT: Final = 34
_MAX_COLUMNS: Final = 3


def heat_colours(heat: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Values in [0, 1] as colours from nearly black over red to pale yellow."""
    stops = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(heat, stops, _INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def overlay(image: Image.Image, heat: Float[np.ndarray, "H W"]) -> Image.Image:
    """The image with attention over it: grey and dimmed where there is little, glowing where there is much.

    Args:
        image: RGB, of the map's size.
        heat: Values in [0, 1].
    """
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None] * 0.62
    colour = np.asarray(image, dtype=np.float64)
    strength = heat[..., None].astype(np.float64)
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


def explanation_sheet(explanation: Explanation) -> Image.Image:
    """One picture of the image and its labels: where the model looked, each score and its threshold."""
    panel = _panel_size(explanation.image)
    plain = explanation.image.resize(panel, Image.Resampling.LANCZOS)
    labels = list(explanation.maps)
    num_panels = 1 + len(labels)
    rows = math.ceil(num_panels / _MAX_COLUMNS)
    columns = math.ceil(num_panels / rows)
    cell = (panel[0] + _MARGIN, panel[1] + _CAPTION_HEIGHT + _MARGIN)
    size = (columns * cell[0] + _MARGIN, _HEADER_HEIGHT + rows * cell[1] + _LEGEND_HEIGHT + _MARGIN // 2)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, explanation, size[0])
    for number in range(num_panels):
        left = _MARGIN + (number % columns) * cell[0]
        top = _HEADER_HEIGHT + _MARGIN // 2 + (number // columns) * cell[1]
        if number == 0:
            sheet.paste(plain, (left, top))
            _draw_summary(draw, explanation, (left, top + panel[1]), panel[0])
            continue
        label = labels[number - 1]
        heat = stretched(explanation.map_on_image(label, (panel[1], panel[0])))
        sheet.paste(overlay(plain, heat), (left, top))
        _draw_score(sheet, explanation, label, (left, top + panel[1]), panel[0])
    _draw_legend(sheet, draw)
    return sheet


def _panel_size(image: Image.Image) -> tuple[int, int]:
    scale = min(_PANEL_WIDTH / image.width, _MAX_PANEL_HEIGHT / image.height)
    return max(120, round(image.width * scale)), max(1, round(image.height * scale))


def _draw_header(draw: ImageDraw.ImageDraw, explanation: Explanation, width: int) -> None:
    name = (explanation.prediction.source or "image").rpartition("/")[2]
    draw_line(draw, name, (_MARGIN, 16), 19, width=width - 2 * _MARGIN)


def _draw_summary(
    draw: ImageDraw.ImageDraw, explanation: Explanation, corner: tuple[int, int], width: int
) -> None:
    labels = explanation.prediction.labels
    text = f"{len(labels)} label{'s' if len(labels) != 1 else ''} found" if labels else "no label found"
    draw.text((corner[0], corner[1] + 10), text, fill=INK, font=font(18))
    draw_line(draw, ", ".join(labels), (corner[0], corner[1] + 36), 14, width=width, colour=GREY)


def _draw_score(
    sheet: Image.Image, explanation: Explanation, label: str, corner: tuple[int, int], width: int
) -> None:
    prediction = explanation.prediction
    row = LabelScore(
        label, prediction.scores[label], prediction.thresholds[label], label in prediction.labels
    )
    draw_score(sheet, row, (corner[0], corner[1] + 10), width)
    attention = explanation.maps[label]
    sharpness = f"most attention: {attention.max() / attention.mean():.1f} x the average"
    draw_line(ImageDraw.Draw(sheet), sharpness, (corner[0], corner[1] + 54), 13, width=width, colour=GREY)


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    top = sheet.height - _LEGEND_HEIGHT
    ramp = Image.fromarray(heat_colours(np.tile(np.linspace(0, 1, 120), (10, 1))))
    size = font(13)
    left = _MARGIN
    draw.text((left, top + 6), "attention: least", fill=GREY, font=size)
    left += round(size.getlength("attention: least")) + 8
    sheet.paste(ramp, (left, top + 10))
    draw.text((left + ramp.width + 8, top + 6), "most", fill=GREY, font=size)
    left += ramp.width + 8 + round(size.getlength("most")) + 28
    draw_tick(draw, (left, top + 8), height=14)
    draw.text((left + 8, top + 6), "threshold of the label", fill=GREY, font=size)
