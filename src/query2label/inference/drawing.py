"""What pictures of scores are drawn with: colours, lines of text, and bars with their thresholds."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

PAPER: Final = (255, 255, 255)
INK: Final = (24, 26, 32)
GREY: Final = (110, 114, 124)
TRACK: Final = (228, 230, 235)
PREDICTED: Final = (201, 62, 60)
NOT_PREDICTED: Final = (150, 153, 162)

BAR_HEIGHT: Final = 42
"""Of `draw_score`, in pixels."""
_LABEL_SIZE: Final = 18
_LONGEST_TEXT: Final = 300
_FINER: Final = 4
_NO_LETTER: Final = "\uffff"
_WIDER_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
)
"""By file name, as Pillow finds them in the folders of Linux, macOS and Windows."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class LabelScore:
    """What is to be said about one label."""

    label: str
    score: float
    """In [0, 1]."""
    threshold: float | None
    """In [0, 1]; None where it is not known."""
    is_predicted: bool


def draw_score(sheet: Image.Image, row: LabelScore, corner: tuple[int, int], width: int) -> None:
    """Draws a label with its score, over a bar of the score with a tick at the threshold.

    Args:
        sheet: What is drawn on.
        row: What is said; the bar of a predicted label is red, that of another one grey.
        corner: (left, top) of the drawing, in pixels.
        width: Of the drawing, in pixels; a longer name is cut.
    """
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    colour = PREDICTED if row.is_predicted else NOT_PREDICTED
    number, size = f"{row.score:.2f}", font(_LABEL_SIZE)
    number_width = round(size.getlength(number))
    draw.text((left + width - number_width, top), number, fill=colour, font=size)
    draw_line(draw, row.label, (left, top), _LABEL_SIZE, width=width - number_width - 12)
    bar = (left, top + 30, left + width, top + 37)
    rounded(sheet, bar, TRACK)
    filled = round(row.score * width)
    if filled >= bar[3] - bar[1]:
        rounded(sheet, (left, bar[1], left + filled, bar[3]), colour)
    if row.threshold is not None:
        tick = left + round(row.threshold * (width - 1))
        draw_tick(draw, (tick, bar[1] - 4), height=14)


def draw_line(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    size: int,
    *,
    width: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Draws a line of text, cut with an ellipsis where it is wider than `width` pixels."""
    letters = font(size, text)
    draw.text(corner, fitting(text, letters, width), fill=colour, font=letters)


def draw_tick(draw: ImageDraw.ImageDraw, corner: tuple[int, int], *, height: int) -> None:
    """Draws the mark of a threshold, two pixels wide, from (x, top) down."""
    left, top = corner
    draw.rectangle((left - 1, top, left, top + height), fill=INK)


def rounded(sheet: Image.Image, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    """Fills the box (left, top, right, bottom), right and bottom outside, with smoothly rounded ends."""
    size = (box[2] - box[0], box[3] - box[1])
    sheet.paste(colour, box, rounded_mask(size, radius=min(size) / 2))


def rounded_mask(size: tuple[int, int], *, radius: float) -> Image.Image:
    """A mask of (width, height) pixels that leaves the corners out, smoothly."""
    fine = Image.new("L", (size[0] * _FINER, size[1] * _FINER), 0)
    corner = (fine.width - 1, fine.height - 1)
    ImageDraw.Draw(fine).rounded_rectangle((0, 0, *corner), radius=radius * _FINER, fill=255)
    return fine.resize(size, Image.Resampling.BOX)


def font(size: int, text: str = "") -> Font:
    """The font that `text` is drawn with, at this size in pixels.

    Pillow's own, which has the letters of English; where it lacks one, the first common font of the machine
    that has all of them, if there is one.
    """
    own = ImageFont.load_default(size=size)
    fonts = (own,) if text.isascii() else (own, *_fonts_of_machine(size))
    return next((candidate for candidate in fonts if _has_letters(candidate, text)), own)


@functools.cache
def _fonts_of_machine(size: int) -> tuple[Font, ...]:
    found = []
    for name in _WIDER_FONTS:
        with contextlib.suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return tuple(found)


def _has_letters(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(_NO_LETTER))
    return text.isascii() or all(
        bytes(font.getmask(char)) != missing for char in set(_printable(text)) if not char.isspace()
    )


def fitting(text: str, font: Font, width: int) -> str:
    """`text` on one line, cut with an ellipsis where it is wider than `width` pixels."""
    shown = _printable(text[:_LONGEST_TEXT])
    if len(text) <= _LONGEST_TEXT and font.getlength(shown) <= width:
        return shown
    while shown and font.getlength(f"{shown}...") > width:
        shown = shown[:-1]
    return f"{shown}..."


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels, broken between words; a longer word is cut."""
    lines: list[str] = []
    for word in _printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fitting(word, font, width))
    return lines


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
