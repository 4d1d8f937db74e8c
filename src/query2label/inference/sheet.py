"""Pictures of an explanation: one label on the image, and a sheet of the image with all its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from query2label.inference.drawing import (
    BAR_HEIGHT,
    GREY,
    INK,
    PAPER,
    draw_line,
    draw_score,
    draw_tick,
    font,
)
from query2label.inference.explanation import Explanation, MapMethod
from query2label.inference.heat import heat_colours

_PANEL_WIDTH: Final = 380
_SMALL_PANEL_WIDTH: Final = 236
_MAX_PANEL_HEIGHT: Final = 520
_MARGIN: Final = 24
_CAPTION_HEIGHT: Final = 74
_HEADER_HEIGHT: Final = 40
_LEGEND_HEIGHT: Final = 34
_MAX_COLUMNS: Final = 3
_NARROWEST: Final = 240
"""Of the picture of a label, in pixels, so that its name can be read."""
_EVEN: Final = 1.05
"""A map whose most is below this many times its average points nowhere."""


@dataclass(frozen=True)
class _Panel:
    """One picture of a sheet, and what is written under it."""

    cells: Float[np.ndarray, "h w"] | None
    """The map over the image; None for the image as it is."""
    label: str | None = None
    """Whose score is written; None: what was found."""
    note: str = ""


def label_picture(explanation: Explanation, label: str) -> Image.Image:
    """The image with the map of a label over it, and under it the label's name, score and threshold.

    As large as the image, but at most 2,048 pixels on its longer side, and not narrower than 240.
    """
    picture = explanation.picture(label)
    width, height = picture.size
    sheet = Image.new("RGB", (max(width, _NARROWEST) + 2 * 12, height + BAR_HEIGHT + 44), PAPER)
    sheet.paste(picture, ((sheet.width - width) // 2, 12))
    below = (12, height + 22)
    draw_score(sheet, explanation.score_of(label), below, sheet.width - 24)
    line = f"{explanation.name_of_map()}; tick: threshold"
    draw_line(ImageDraw.Draw(sheet), line, (12, below[1] + 42), 12, width=sheet.width - 24, colour=GREY)
    return sheet


def explanation_sheet(explanation: Explanation) -> Image.Image:
    """One picture of the image and its labels: where the model looked, each score and its threshold.

    Where the maps of heads were asked for, each label has a row with their mean and each of them.
    """
    rows = _rows(explanation)
    num_columns = max(len(row) for row in rows)
    panel = _panel_size(
        explanation.image, _PANEL_WIDTH if num_columns <= _MAX_COLUMNS else _SMALL_PANEL_WIDTH
    )
    plain = explanation.image.resize(panel, Image.Resampling.LANCZOS)
    cell = (panel[0] + _MARGIN, panel[1] + _CAPTION_HEIGHT + _MARGIN)
    size = (
        num_columns * cell[0] + _MARGIN,
        _HEADER_HEIGHT + len(rows) * cell[1] + _LEGEND_HEIGHT + _MARGIN // 2,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    name = (explanation.prediction.source or "image").rpartition("/")[2]
    draw_line(draw, name, (_MARGIN, 16), 19, width=size[0] - 2 * _MARGIN)
    for row, panels in enumerate(rows):
        for column, each in enumerate(panels):
            left = _MARGIN + column * cell[0]
            top = _HEADER_HEIGHT + _MARGIN // 2 + row * cell[1]
            picture = plain if each.cells is None else explanation.laid_over(each.cells, panel)
            sheet.paste(picture, (left, top))
            _draw_caption(sheet, explanation, each, (left, top + panel[1]), panel[0])
    _draw_legend(sheet, draw, explanation.name_of_map())
    return sheet


def label_grid(pairs: Sequence[tuple[Explanation, str]]) -> Image.Image:
    """Several images, each with the map of one of its labels, and the label's score and threshold; no names.

    At most three side by side, 812 pixels wide.
    """
    columns = min(_MAX_COLUMNS, len(pairs))
    side, height = _SMALL_PANEL_WIDTH, _SMALL_PANEL_WIDTH + BAR_HEIGHT + 24
    rows = math.ceil(len(pairs) / columns)
    grid = Image.new(
        "RGB", (columns * (side + _MARGIN) + _MARGIN, rows * (height + _MARGIN) + _MARGIN), PAPER
    )
    for number, (explanation, label) in enumerate(pairs):
        left = _MARGIN + number % columns * (side + _MARGIN)
        top = _MARGIN + number // columns * (height + _MARGIN)
        picture = explanation.picture(label, side)
        grid.paste(picture, (left + (side - picture.width) // 2, top + side - picture.height))
        draw_score(grid, explanation.score_of(label), (left, top + side + 10), side)
    return grid


def _rows(explanation: Explanation) -> list[list[_Panel]]:
    plain = _Panel(None)
    panels = [
        _Panel(cells, label, _sharpness(cells, explanation.method))
        for label, cells in explanation.maps.items()
    ]
    if explanation.head_maps:
        heads = {
            label: [_Panel(cells, None, f"head {number}") for number, cells in enumerate(each, start=1)]
            for label, each in explanation.head_maps.items()
        }
        return [[plain], *([panel, *heads[str(panel.label)]] for panel in panels)]
    panels = [plain, *panels]
    num_rows = math.ceil(len(panels) / _MAX_COLUMNS)
    num_columns = math.ceil(len(panels) / num_rows)
    return [panels[start : start + num_columns] for start in range(0, len(panels), num_columns)]


def _panel_size(image: Image.Image, width: int) -> tuple[int, int]:
    scale = min(width / image.width, _MAX_PANEL_HEIGHT / image.height)
    return max(120, round(image.width * scale)), max(1, round(image.height * scale))


def _draw_caption(
    sheet: Image.Image, explanation: Explanation, panel: _Panel, corner: tuple[int, int], width: int
) -> None:
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    if panel.cells is None:
        found = explanation.prediction.labels
        text = f"{len(found)} label{'s' if len(found) != 1 else ''} found" if found else "no label found"
        draw.text((left, top + 10), text, fill=INK, font=font(18))
        draw_line(draw, ", ".join(found), (left, top + 36), 14, width=width, colour=GREY)
    elif panel.label is None:
        draw_line(draw, panel.note, (left, top + 10), 14, width=width, colour=GREY)
    else:
        draw_score(sheet, explanation.score_of(panel.label), (left, top + 10), width)
        draw_line(draw, panel.note, (left, top + 54), 13, width=width, colour=GREY)


def _sharpness(cells: Float[np.ndarray, "h w"], method: MapMethod) -> str:
    most, average = float(cells.max()), float(cells.mean())
    if average <= 0:
        return "no place raises the score"
    if most < _EVEN * average:
        return "looks everywhere alike" + ("; ask Grad-CAM" if method == "attention" else "")
    return f"most: {most / average:.1f} x the average"


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, name: str) -> None:
    top = sheet.height - _LEGEND_HEIGHT
    ramp = Image.fromarray(heat_colours(np.tile(np.linspace(0, 1, 120), (10, 1))))
    size = font(13)
    left = _MARGIN
    draw.text((left, top + 6), "least", fill=GREY, font=size)
    left += round(size.getlength("least")) + 8
    sheet.paste(ramp, (left, top + 10))
    draw.text((left + ramp.width + 8, top + 6), "most", fill=GREY, font=size)
    left += ramp.width + 8 + round(size.getlength("most")) + 28
    draw_tick(draw, (left, top + 8), height=14)
    draw.text((left + 8, top + 6), "threshold of the label", fill=GREY, font=size)
    left += 8 + round(size.getlength("threshold of the label")) + 28
    draw_line(draw, name, (left, top + 6), 13, width=max(0, sheet.width - left - _MARGIN), colour=GREY)
