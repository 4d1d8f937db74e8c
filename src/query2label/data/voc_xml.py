"""The objects in a PASCAL VOC annotation file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from query2label.data.annotation_files import check_label_name, read_xml
from query2label.data.samples import ProblemError
from query2label.errors import DataError

_LARGEST: Final = 1e12
"""No pixel of any image; sizes and areas of such numbers are still finite."""


@dataclass(frozen=True, slots=True)
class VocObject:
    """One `<object>`; left and top count from 0, where the file counts from 1."""

    name: str
    difficult: bool
    left: float
    top: float
    width: float
    height: float


def read_objects(path: Path) -> list[VocObject]:
    """The objects in an annotation file, in its order.

    VOC's corners are pixels that count from 1 and belong to the box, so its width is xmax - xmin + 1.

    Raises:
        ProblemError: If the file cannot be read, or an object has no name or no box.
    """
    objects = []
    for number, element in enumerate(read_xml(path).findall("object"), start=1):
        try:
            objects.append(_object(element))
        except DataError as error:
            raise ProblemError(path, f"object {number}: {error}") from error
    return objects


def _object(element: Element) -> VocObject:
    name = (element.findtext("name") or "").strip()
    check_label_name(name)
    left, top, right, bottom = (
        _number(element.findtext(f"bndbox/{key}"), key) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        raise DataError(f"the box of {name!r} ends before it begins")
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return VocObject(name, difficult, left - 1, top - 1, right - left + 1, bottom - top + 1)


def _number(text: str | None, key: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:  # nor NaN
        raise DataError(f"{key} is {text!r}: expected a number of pixels")
    return value
