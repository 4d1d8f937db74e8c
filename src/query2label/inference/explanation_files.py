"""The files of an explained image: a sheet, a picture per label, and the maps as numbers."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Final

from query2label.inference.explanation import Explanation
from query2label.inference.sheet import label_picture
from query2label.storage import atomic_file, explained_os_errors

_LONGEST_NAME: Final = 60
_MAPS_NAME: Final = "maps.npz"


def write_explanation(explanation: Explanation, folder: Path, name: str) -> Path:
    """Writes `NAME.png` (the sheet), and beside it `NAME/` with a picture per label and `maps.npz`.

    Pictures are called `01-label.png` in order of the labels, with letters and digits of the label's name
    only; those of an earlier explanation in this place go. A refused write is a `StorageError`.

    Returns:
        The sheet's path.
    """
    _forget_earlier(folder / name)
    for number, label in enumerate(explanation.maps, start=1):
        with atomic_file(folder / name / f"{number:02d}-{safe_name(label)}.png", mode="wb") as file:
            label_picture(explanation, label).save(file, format="PNG")
    explanation.save(folder / name / _MAPS_NAME)
    sheet = folder / f"{name}.png"
    explanation.save(sheet)
    return sheet


def _forget_earlier(folder: Path) -> None:
    """Removes the pictures of labels that were explained before; only where the maps beside them are ours."""
    maps = folder / _MAPS_NAME
    if maps.is_file():
        with explained_os_errors(folder):
            for picture in folder.glob("[0-9][0-9]-*.png"):
                picture.unlink()
            maps.unlink()


def safe_name(text: str) -> str:
    """A part of a file name that any system takes, and that leads nowhere: ASCII letters, digits, - and _.

    Accents are dropped; whatever else is in `text` becomes one _ in a row. It may be `_` alone, and different
    texts may give the same name.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9-]+", "_", plain)[:_LONGEST_NAME].strip("-") or "_"
