"""The text files of YOLO data sets: one object per line, a class number and shares of the image's size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from query2label.data.annotation_files import read_text
from query2label.data.extents import Extent, box_extent, number, numbers, outline_extent
from query2label.data.file_starts import file_start
from query2label.data.samples import ProblemError
from query2label.errors import DataError

_LINE: Final = re.compile(r"\d+(\.0*)?(\s+[\d.eE+-]+){4,}")
_MAX_BYTES: Final = 16 * 2**20
_SLACK: Final = 0.01
"""How far a share may be out of [0, 1]: tools round, and draw a little over the edge."""


class YoloObject(NamedTuple):
    """One object; its extent is in shares of the image's width and height."""

    class_number: int
    extent: Extent
    line: int


def is_yolo_line(line: str) -> bool:
    """Whether a line looks like an object's: a whole number and at least four numbers."""
    return _LINE.fullmatch(line.strip()) is not None


def begins_with_object(file: Path) -> bool:
    """Whether the first line of a text file that is not empty looks like an object's."""
    first = file_start(file).lstrip().partition(b"\n")[0]
    return is_yolo_line(first.decode("utf-8", "replace"))


def read_objects(file: Path, *, num_keypoint_values: int | None = None) -> list[YoloObject]:
    """The objects in a label file: boxes (centre and size), outlines (also turned boxes), or poses.

    Args:
        file: The text file; without a line it says that no object is in the image.
        num_keypoint_values: How many numbers follow an object's box, in a data set of poses.

    Raises:
        ProblemError: If a line is none of these. The file is refused so too if it cannot be read.
    """
    objects: list[YoloObject] = []
    for line, text in enumerate(read_text(file, max_bytes=_MAX_BYTES).split("\n"), start=1):
        words = text.split()
        if not words:
            continue
        try:
            values = numbers(words[1:], "a coordinate")
            objects.append(YoloObject(_class_number(words[0]), _extent(values, num_keypoint_values), line))
        except DataError as error:
            raise ProblemError(file, str(error), line) from error
    return objects


def _class_number(word: str) -> int:
    value = number(word, "the class")
    if value < 0 or value != int(value):
        raise DataError(f"the class is {word!r}: expected a whole number")
    return int(value)


def _extent(values: list[float], num_keypoint_values: int | None) -> Extent:
    num_box_values = len(values) - (num_keypoint_values or 0)
    if num_box_values == 4:
        values = values[:4]
    elif num_keypoint_values is not None or len(values) < 6 or len(values) % 2:
        expected = f"4 and {num_keypoint_values} of key points" if num_keypoint_values else "4, or an outline"
        raise DataError(f"has {len(values)} numbers after the class: expected {expected}")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise DataError("has coordinates outside of 0 to 1: expected shares of the image's width and height")
    if len(values) > 4:
        return outline_extent(values[::2], values[1::2])
    center_x, center_y, width, height = values
    return box_extent(center_x - width / 2, center_y - height / 2, width, height)
