"""COCO instances files: a label is in an image if one of its objects is (crowds count, as the authors do).

Labels are ordered by ascending category id. Images without annotations are kept with all labels absent. Boxes
keep the area that the file states (a mask's). Outlines are dropped as they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from query2label.data.annotation_files import check_label_name, read_json
from query2label.data.coco_files import (
    AnnotationFile,
    annotation_files,
    data_folder,
    image_folders,
    is_in_split,
)
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.samples import Box, Dataset, Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet

_NUM_PROBED = 20
_LARGEST = 1e12


@dataclass
class _Contents:
    images: list[Any]
    annotations: list[Any]
    names: dict[int, str] = field(default_factory=dict)
    """Category id -> label, in ascending order of the ids."""


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
    only_split: str | None = None,
) -> Dataset:
    """Reads one annotation file, or the folder that holds them.

    Args:
        path: A JSON file, or a folder as `annotation_files` searches it.
        labels: The label set and its order. A category outside of it that is used is a problem; a label
            that is no category is unknown everywhere.
        image_root: Folder that holds the images, or their folders; looked for near the file where left out.
        check_files: Whether a missing image file is a problem.
        only_split: Reads only the files of this split, if there are any.

    Raises:
        DataError: If the folder has no annotation file.
        ProblemError: If a file is not a COCO instances file, or two files have different categories.
    """
    files = annotation_files(path)
    if not files:
        raise DataError(f"{path} has no COCO files: expected annotations/instances_*.json in it.")
    wanted = [file for file in files if only_split is None or is_in_split(file, only_split)] or files
    base = path if path.is_dir() else data_folder(path)
    problems: list[Problem] = []
    samples: list[Sample] = []
    names: dict[int, str] | None = None
    for file in wanted:
        if path.is_dir():
            refuse_outside(file.path, path)
        contents = _contents(file.path)
        if names is not None and names != contents.names:
            raise ProblemError(file.path, f"has other categories than {wanted[0].path}")
        names = contents.names
        label_set = labels or LabelSet(names.values())
        folder = image_root or base
        samples += _FileReader(file, contents, label_set, problems).samples(
            ImageRoot(folder, check_files=check_files), image_folders(file, folder)
        )
    return Dataset(label_set, samples, path, "coco", problems)


def looks_like(path: Path) -> bool:
    """Whether `path` is a JSON file, or a folder with files that are named as COCO's are."""
    return path.suffix.lower() == ".json" if path.is_file() else bool(annotation_files(path))


def _contents(path: Path) -> _Contents:
    value = read_json(path, object_hook=_without_outlines)
    parts = [value.get(key) if isinstance(value, dict) else None for key in _PARTS]
    if not all(isinstance(part, list) for part in parts):
        raise ProblemError(path, f"is not a COCO instances file: it needs lists called {', '.join(_PARTS)}")
    images, annotations, categories = parts
    names: dict[int, str] = {}
    for category in categories:  # type: ignore[union-attr]  # lists, as was just seen
        number, name = _members(category, "id", "name")
        if not _is_whole(number) or not isinstance(name, str) or number in names:
            raise ProblemError(path, f"has a category without its own id and name: {str(category)[:80]}")
        try:
            check_label_name(name)
        except DataError as error:
            raise ProblemError(path, f"category {number}: {error}") from error
        names[number] = name
    if len(set(names.values())) < len(names) or not names:
        raise ProblemError(path, "has two categories of one name, or none at all")
    return _Contents(images or [], annotations or [], dict(sorted(names.items())))


_PARTS: Final = ("images", "annotations", "categories")


def _without_outlines(value: dict[str, Any]) -> dict[str, Any]:
    # Most of a COCO file is outlines: dropping each as it is read keeps the memory at a fraction.
    value.pop("segmentation", None)
    return value


def _members(value: Any, *keys: str) -> list[Any]:
    return [value.get(key) if isinstance(value, dict) else None for key in keys]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _FileReader:
    """Turns one file's images and annotations into samples."""

    def __init__(
        self, file: AnnotationFile, contents: _Contents, labels: LabelSet, problems: list[Problem]
    ) -> None:
        self._file = file
        self._contents = contents
        self._labels = labels
        self._problems = problems
        self._unannotated = frozenset(
            index for index, name in enumerate(labels) if name not in contents.names.values()
        )

    def samples(self, root: ImageRoot, folders: Sequence[str]) -> list[Sample]:
        paths = self._paths(root, folders)
        positive: dict[int, set[int]] = {number: set() for number in paths}
        boxes: dict[int, list[Box]] = {number: [] for number in paths}
        unusable = self._read_annotations(positive, boxes)
        unknown = tuple(sorted(self._unannotated))
        return [
            Sample(path, tuple(sorted(positive[number])), unknown, tuple(boxes[number]), self._file.split)
            for number, path in paths.items()
            if path is not None and number not in unusable
        ]

    def _problem(self, message: str) -> None:
        self._problems.append(Problem(self._file.path, message))

    def _paths(self, root: ImageRoot, folders: Sequence[str]) -> dict[int, Path | None]:
        """Image id -> path; None for an image that cannot be used."""
        folder = self._folder_of_images(root, folders)
        paths: dict[int, Path | None] = {}
        seen: set[Path] = set()
        for image in self._contents.images:
            number, name = _members(image, "id", "file_name")
            if not _is_whole(number) or not isinstance(name, str):
                self._problem(f"an image has no id or file_name: {str(image)[:80]}")
                continue
            if number in paths:
                self._problem(f"image id {number} occurs twice")
                continue
            paths[number] = None
            try:
                path = root.locate(name if name.startswith("/") else f"{folder}/{name}" if name else name)
            except DataError as error:
                self._problem(f"image id {number}: {error}")
                continue
            if path in seen:
                self._problem(f"image id {number}: {name!r} has another id too")
                continue
            seen.add(path)
            paths[number] = path
        return paths

    def _folder_of_images(self, root: ImageRoot, folders: Sequence[str]) -> str:
        """The candidate in which most of the first images are."""
        beside = self._file.path.parent
        if beside.is_relative_to(root.folder):
            folders = [*folders, beside.relative_to(root.folder).as_posix()]
        names = [_members(image, "file_name")[0] for image in self._contents.images[:_NUM_PROBED]]

        def num_found(folder: str) -> int:
            found = 0
            for name in names:
                try:
                    found += isinstance(name, str) and root.has(f"{folder}/{name}")
                except DataError:
                    continue
            return found

        return max(folders, key=num_found)

    def _read_annotations(self, positive: dict[int, set[int]], boxes: dict[int, list[Box]]) -> set[int]:
        """Fills `positive` and `boxes`; gives the ids of the images with an annotation that is wrong."""
        unusable: set[int] = set()
        label_of = self._label_of()
        for annotation in self._contents.annotations:
            number, category, box = _members(annotation, "image_id", "category_id", "bbox")
            try:
                if not _is_whole(number) or number not in positive:
                    _refuse(f"belongs to image id {number!r}, which is not in the list of images")
                if not _is_whole(category) or category not in label_of:
                    _refuse(f"has category id {category!r}, which is not in the list of categories")
                label = label_of[category]
                if isinstance(label, str):
                    _refuse(label)
                positive[number].add(label)
                if box is not None:
                    boxes[number].append(_box(label, box, annotation.get("area")))
            except DataError as error:
                own_id = _members(annotation, "id")[0]
                self._problem(f"annotation {own_id!r} {error}")
                if _is_whole(number):
                    unusable.add(number)
        return unusable

    def _label_of(self) -> dict[int, int | str]:
        """Category id -> output index, or what is wrong with it."""
        found: dict[int, int | str] = {}
        for number, name in self._contents.names.items():
            try:
                found[number] = self._labels.index(name)
            except DataError as error:
                found[number] = f"has a label that is not wanted: {error}"
        return found


def _refuse(reason: str) -> NoReturn:
    raise DataError(reason)


def _box(label: int, box: Any, area: Any) -> Box:
    numbers = box if isinstance(box, list) and len(box) == 4 else [None]
    if not all(_is_finite(number) for number in numbers) or min(numbers[2:]) < 0:
        raise DataError(f"has the box {str(box)[:80]}: expected [left, top, width, height] in pixels")
    if area is not None and not _is_finite(area):
        raise DataError(f"has the area {str(area)[:80]}: expected square pixels")
    left, top, width, height = map(float, numbers)
    return Box(label, left, top, width, height, width * height if area is None else float(area))


def _is_finite(value: Any) -> bool:
    # The comparison is false for NaN, and exact for whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
