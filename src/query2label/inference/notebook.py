"""Predictions and explanations as HTML, for Jupyter: every name is text, every picture lies in the page.

Colours are those of the notebook, light or dark: text is inherited, greys are translucent.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Final

from PIL import Image

from query2label.inference.drawing import LabelScore

_PHOTO_PX: Final = 360
_PICTURE_PX: Final = 260
_LONGEST_TEXT: Final = 300
_FAINT: Final = "opacity:.7;font-size:90%"


def prediction_html(
    rows: Sequence[LabelScore], *, title: str, heading: str, photo: Image.Image | None = None
) -> str:
    """The photo, if there is one, and beside it labels with their scores and thresholds.

    Args:
        rows: The labels, in their order.
        title: Name of the photo.
        heading: What was found, or why nothing could be.
        photo: RGB, of any size.
    """
    picture = "" if photo is None else f'<div style="flex:none">{_picture(photo, _PHOTO_PX)}</div>'
    bars = "".join(score_html(row) for row in rows)
    return _block(
        f'{picture}<div style="flex:1;min-width:180px;max-width:360px">'
        f'<div style="{_FAINT}">{text(title)}</div>'
        f'<div style="font-size:125%;margin:4px 0 10px">{text(heading)}</div>{bars}</div>'
    )


def pictures_html(pictures: Iterable[tuple[Image.Image, LabelScore]], *, title: str, note: str) -> str:
    """Pictures side by side, a label with its score and threshold under each.

    Args:
        pictures: RGB, of any size, and what belongs under it.
        title: Name of the photo.
        note: What the pictures show.
    """
    figures = "".join(
        f'<div style="width:{_PICTURE_PX}px">{_picture(picture, _PICTURE_PX)}{score_html(row)}</div>'
        for picture, row in pictures
    )
    return _block(f'<div style="width:100%;{_FAINT}">{text(title)} &middot; {text(note)}</div>{figures}')


def score_html(row: LabelScore) -> str:
    """A label and its score, over a bar of the score with a tick at the threshold."""
    colour = "#c93e3c" if row.is_predicted else "#9699a2"
    filled = f"width:{100 * row.score:.2f}%;height:6px;border-radius:3px;background:{colour}"
    track = "position:relative;height:6px;margin-top:4px;border-radius:3px;background:rgba(128,128,128,.3)"
    tick = ""
    if row.threshold is not None:
        place = (
            f"position:absolute;left:calc({100 * row.threshold:.2f}% - 1px);top:-4px;width:2px;height:14px"
        )
        tick = f'<div title="threshold {row.threshold:.2f}" style="{place};background:currentColor"></div>'
    return (
        '<div style="margin:6px 0 12px"><div style="display:flex;gap:12px">'
        f'<span style="flex:1;overflow-wrap:anywhere">{text(row.label)}</span>'
        f"<span>{row.score:.2f}</span></div>"
        f'<div style="{track}"><div style="{filled}"></div>{tick}</div></div>'
    )


def text(raw: str) -> str:
    """`raw` as HTML that shows it, on one line and of bounded length."""
    visible = "".join(char if char.isprintable() else "\ufffd" for char in raw[:_LONGEST_TEXT])
    return html.escape(visible if len(raw) <= _LONGEST_TEXT else f"{visible}...")


def _block(content: str) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start">{content}</div>'


def _picture(image: Image.Image, width: int) -> str:
    # Twice the pixels for fine screens.
    scale = min(1.0, 2 * width / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<img alt="" src="data:image/png;base64,{data}" '
        f'style="display:block;max-width:{width}px;max-height:{width}px;border-radius:6px">'
    )
