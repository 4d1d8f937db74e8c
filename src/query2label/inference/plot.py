"""The picture of a prediction: the photo, and beside it what was found in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from query2label.inference.drawing import (
    BAR_HEIGHT,
    GREY,
    INK,
    PAPER,
    PREDICTED,
    TRACK,
    LabelScore,
    draw_line,
    draw_score,
    draw_tick,
    font,
    rounded_mask,
    wrapped,
)

MAX_ROWS: Final = 9
_PHOTO_SIZE: Final = (680, 560)
_COLUMN_WIDTH: Final = 300
_MARGIN, _GAP = 32, 40
_ROW_GAP: Final = 18
_ROWS_TOP: Final = 78
_CORNER_RADIUS: Final = 8.0


def plot_scores(photo: Image.Image, rows: Sequence[LabelScore], *, title: str, num_found: int) -> Image.Image:
    """The photo with the names, scores and thresholds of labels beside it, 1,084 pixels wide or less.

    Args:
        photo: RGB, of any size; it is scaled to fit into 680 x 560 pixels.
        rows: The labels, in their order; at most `MAX_ROWS` are drawn.
        title: Name of the photo.
        num_found: Number of predicted labels.
    """
    shown = rows[:MAX_ROWS]
    bottom = _ROWS_TOP + len(shown) * (BAR_HEIGHT + _ROW_GAP)
    sheet, draw, left = _sheet(_scaled(photo), title, found_heading(num_found), column_height=bottom + 16)
    for number, row in enumerate(shown):
        top = _MARGIN + _ROWS_TOP + number * (BAR_HEIGHT + _ROW_GAP)
        draw_score(sheet, row, (left, top), _COLUMN_WIDTH)
    _draw_footer(draw, shown, (left, _MARGIN + bottom), num_more=max(0, num_found - len(shown)))
    return sheet


def plot_error(reason: str, *, title: str) -> Image.Image:
    """The place of a photo that could not be read, and why."""
    letters = font(16, reason)
    lines = wrapped(reason, letters, _COLUMN_WIDTH)
    place = Image.new("RGB", (360, 270), TRACK)
    _draw_cross(place)
    sheet, draw, left = _sheet(
        place, title, "No prediction", column_height=_ROWS_TOP + 24 * len(lines), colour=PREDICTED
    )
    for number, line in enumerate(lines):
        draw.text((left, _MARGIN + _ROWS_TOP + 24 * number), line, fill=INK, font=letters)
    return sheet


def _sheet(
    photo: Image.Image,
    title: str,
    heading: str,
    *,
    column_height: int,
    colour: tuple[int, int, int] = INK,
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Paper with the photo and the heading on it, what draws on it, and where the column beside it begins."""
    left = _MARGIN + photo.width + _GAP
    size = (left + _COLUMN_WIDTH + _MARGIN, max(photo.height, column_height) + 2 * _MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(photo, (_MARGIN, _MARGIN), rounded_mask(photo.size, radius=_CORNER_RADIUS))
    draw = ImageDraw.Draw(sheet)
    draw_line(draw, title, (left, _MARGIN), 15, width=_COLUMN_WIDTH, colour=GREY)
    draw.text((left, _MARGIN + 26), heading, fill=colour, font=font(26))
    return sheet, draw, left


def _draw_footer(
    draw: ImageDraw.ImageDraw, rows: Sequence[LabelScore], corner: tuple[int, int], *, num_more: int
) -> None:
    left, top = corner
    if num_more:
        more = f"and {num_more} more"
        draw.text((left, top), more, fill=GREY, font=font(13))
        left += round(font(13).getlength(more)) + 24
    if any(row.threshold is not None for row in rows):
        draw_tick(draw, (left + 1, top + 1), height=13)
        draw.text((left + 9, top), "threshold of the label", fill=GREY, font=font(13))


def found_heading(num_found: int) -> str:
    """How many labels were found, in words."""
    return f"{num_found or 'No'} label{'s' if num_found > 1 else ''} found"


def _scaled(photo: Image.Image) -> Image.Image:
    scale = min(_PHOTO_SIZE[0] / photo.width, _PHOTO_SIZE[1] / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _draw_cross(place: Image.Image) -> None:
    x, y, arm = place.width // 2, place.height // 2, 26
    draw = ImageDraw.Draw(place)
    for end in (-arm, arm):
        draw.line((x - arm, y - end, x + arm, y + end), fill=GREY, width=7)
