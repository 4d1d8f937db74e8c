"""What a COCO instances file says, in one pass and in few bytes: outlines are dropped as they are read."""

from __future__ import annotations

import reprlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from query2label.data.annotation_files import check_label_name
from query2label.data.json_stream import read_lists
from query2label.data.samples import Problem, ProblemError
from query2label.errors import DataError

_LARGEST: Final = 1e12
_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 3, 60, 60, 60


class CocoObject(NamedTuple):
    """One annotation: its image and category, and its box and area unless it has none."""

    own_id: Any
    image_id: int
    category_id: int
    box: tuple[float, float, float, float, float] | None
    """Left, top, width, height in pixels, and the area in square pixels."""


class _Objects:
    """Annotations in columns: a tenth of what as many dictionaries take."""

    def __init__(self) -> None:
        self._own_ids: list[Any] = []
        self._numbers = array("q")
        self._boxes = array("d")
        self._with_box = bytearray()

    def append(self, item: CocoObject) -> None:
        self._own_ids.append(item.own_id)
        self._numbers.extend((item.image_id, item.category_id))
        self._with_box.append(item.box is not None)
        if item.box is not None:
            self._boxes.extend(item.box)

    def __iter__(self) -> Iterator[CocoObject]:
        numbers, boxes = iter(self._numbers), zip(*[iter(self._boxes)] * 5, strict=True)
        for own_id, with_box in zip(self._own_ids, self._with_box, strict=True):
            yield CocoObject(own_id, next(numbers), next(numbers), next(boxes) if with_box else None)


@dataclass
class CocoContents:
    """One file; what is wrong with single images and annotations is left out and listed."""

    path: Path
    file_names: dict[int, str] = field(default_factory=dict)
    """Image id -> file name, in the order of the file."""
    labels: dict[int, str] = field(default_factory=dict)
    """Category id -> label, in ascending order of the ids."""
    objects: _Objects = field(default_factory=_Objects)
    unusable: set[int] = field(default_factory=set)
    """Ids of images with an annotation that is wrong."""
    problems: list[Problem] = field(default_factory=list)


def read_contents(path: Path) -> CocoContents:
    """The images, categories and annotations of a file, whatever their order in it.

    Raises:
        ProblemError: If the file is not a COCO instances file, or two categories share a name.
    """
    contents = CocoContents(path)
    reader = _Reader(contents)
    takers = {"images": reader.image, "annotations": reader.annotation, "categories": reader.category}
    if read_lists(path, takers) != takers.keys():
        raise ProblemError(path, f"is not a COCO instances file: it needs lists called {', '.join(takers)}")
    if len(set(contents.labels.values())) < len(contents.labels) or not contents.labels:
        raise ProblemError(path, "has two categories of one name, or none at all")
    contents.labels = dict(sorted(contents.labels.items()))
    return contents


class _Reader:
    """Takes the elements of a file's lists, in any order."""

    def __init__(self, contents: CocoContents) -> None:
        self._contents = contents

    def image(self, image: Any) -> None:
        number, name = _members(image, "id", "file_name")
        if not _is_whole(number) or not isinstance(name, str):
            self._problem(f"an image has no id or file_name: {shown(image)}")
        elif number in self._contents.file_names:
            self._problem(f"image id {number} occurs twice")
        else:
            self._contents.file_names[number] = name

    def annotation(self, annotation: Any) -> None:
        own_id, number, category, box, area = _members(
            annotation, "id", "image_id", "category_id", "bbox", "area"
        )
        try:
            if not _is_whole(number):
                _refuse(f"belongs to image id {shown(number)}, which is not in the list of images")
            if not _is_whole(category):
                _refuse(f"has category id {shown(category)}, which is not in the list of categories")
            numbers = None if box is None else _box(box, area)
            self._contents.objects.append(CocoObject(own_id, number, category, numbers))
        except DataError as error:
            self._problem(f"annotation {shown(own_id)} {error}")
            if _is_whole(number):
                self._contents.unusable.add(number)

    def category(self, category: Any) -> None:
        path, labels = self._contents.path, self._contents.labels
        number, name = _members(category, "id", "name")
        if not _is_whole(number) or not isinstance(name, str) or number in labels:
            raise ProblemError(path, f"has a category without its own id and name: {shown(category)}")
        try:
            check_label_name(name)
        except DataError as error:
            raise ProblemError(path, f"category {number}: {error}") from error
        labels[number] = name

    def _problem(self, message: str) -> None:
        self._contents.problems.append(Problem(self._contents.path, message))


def _refuse(reason: str) -> NoReturn:
    raise DataError(reason)


def _members(value: Any, *keys: str) -> list[Any]:
    return [value.get(key) if isinstance(value, dict) else None for key in keys]


def shown(value: Any) -> str:
    """A value of the file, shortened for a message, however large and deep it is."""
    return _SHORT.repr(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _box(box: Any, area: Any) -> tuple[float, float, float, float, float]:
    numbers = box if isinstance(box, list) and len(box) == 4 else [None]
    if not all(_is_finite(number) for number in numbers) or min(numbers[2:]) < 0:
        raise DataError(f"has the box {shown(box)}: expected [left, top, width, height] in pixels")
    if area is not None and not _is_finite(area):
        raise DataError(f"has the area {shown(area)}: expected square pixels")
    left, top, width, height = map(float, numbers)
    return left, top, width, height, width * height if area is None else float(area)


def _is_finite(value: Any) -> bool:
    # The comparison is false for NaN, and exact for whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
