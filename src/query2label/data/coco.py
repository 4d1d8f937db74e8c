"""COCO instances files: a label is in an image if one of its objects is (crowds count, as the authors do).

Labels are ordered by ascending category id. Images without annotations are kept with all labels absent. Boxes
keep the area that the file states (a mask's).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from query2label.data.coco_files import (
    AnnotationFile,
    annotation_files,
    data_folder,
    files_without_labels,
    image_folders,
    is_in_split,
    of_years_with_images,
)
from query2label.data.coco_json import CocoContents, CocoObject, read_contents, shown
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.samples import Box, Dataset, Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet

_NUM_PROBED: Final = 20


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
        check_files: Whether a missing image file is a problem. If so, and several years lie side by side,
            those without a folder of images are left out and noted.
        only_split: Reads only the files of this split, if there are any.

    Raises:
        DataError: If the folder has no annotation file.
        ProblemError: If two files have different categories.
    """
    files = annotation_files(path)
    if not files:
        raise DataError(f"{path} has no COCO files: expected annotations/instances_*.json in it.")
    folder = image_root or (path if path.is_dir() else data_folder(path))
    notes = files_without_labels(path)
    if check_files:
        files, left_out = of_years_with_images(files, folder)
        notes += left_out
    wanted = [file for file in files if only_split is None or is_in_split(file, only_split)] or files
    root = ImageRoot(folder, check_files=check_files)
    problems: list[Problem] = []
    samples: list[Sample] = []
    names: dict[int, str] | None = None
    for file in wanted:
        if path.is_dir():
            refuse_outside(file.path, path)
        contents = read_contents(file.path)
        if names is not None and names != contents.labels:
            raise ProblemError(file.path, f"has other categories than {wanted[0].path}")
        names = contents.labels
        label_set = labels or LabelSet(names.values())
        problems += contents.problems
        samples += _FileReader(file, contents, label_set, problems).samples(root, image_folders(file, folder))
    return Dataset(label_set, samples, path, "coco", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether `path` is a JSON file, or a folder with files that are named as COCO's are."""
    return path.suffix.lower() == ".json" if path.is_file() else bool(annotation_files(path))


class _FileReader:
    """Turns one file's images and annotations into samples."""

    def __init__(
        self, file: AnnotationFile, contents: CocoContents, labels: LabelSet, problems: list[Problem]
    ) -> None:
        self._file = file
        self._contents = contents
        self._labels = labels
        self._problems = problems

    def samples(self, root: ImageRoot, folders: Sequence[str]) -> list[Sample]:
        positive: dict[int, set[int]] = {number: set() for number in self._contents.file_names}
        boxes: dict[int, list[Box]] = {}
        unusable = self._contents.unusable | self._read_objects(positive, boxes)
        paths = self._paths(root, folders)
        known = set(self._contents.labels.values())
        unknown = tuple(index for index, name in enumerate(self._labels) if name not in known)
        return [
            Sample(
                path, tuple(sorted(positive[number])), unknown, tuple(boxes.get(number, ())), self._file.split
            )
            for number, path in paths.items()
            if number not in unusable
        ]

    def _problem(self, message: str) -> None:
        self._problems.append(Problem(self._file.path, message))

    def _paths(self, root: ImageRoot, folders: Sequence[str]) -> dict[int, Path]:
        """Image id -> path, of the images that can be used."""
        folder = self._folder_of_images(root, folders)
        paths: dict[int, Path] = {}
        reasons: list[str] = []
        seen: set[Path] = set()
        for number, name in self._contents.file_names.items():
            try:
                path = root.locate(name if name.startswith("/") else f"{folder}/{name}" if name else name)
            except DataError as error:
                reasons.append(f"image id {number}: {error}")
                continue
            if path in seen:
                reasons.append(f"image id {number}: {name!r} has another id too")
                continue
            seen.add(path)
            paths[number] = path
        if len(reasons) > 1 and not paths:
            # One line, not 118,287, where the images have not been downloaded.
            reasons = [f"none of its {len(reasons):,} images can be used; {reasons[0]}"]
        for reason in reasons:
            self._problem(reason)
        return paths

    def _folder_of_images(self, root: ImageRoot, folders: Sequence[str]) -> str:
        """The candidate in which most of the first images are."""
        beside = self._file.path.parent
        if beside.is_relative_to(root.folder):
            folders = [*folders, beside.relative_to(root.folder).as_posix()]
        names = list(self._contents.file_names.values())[:_NUM_PROBED]

        def num_found(folder: str) -> int:
            found = 0
            for name in names:
                try:
                    found += root.has(f"{folder}/{name}")
                except DataError:
                    continue
            return found

        return max(folders, key=num_found)

    def _read_objects(self, positive: dict[int, set[int]], boxes: dict[int, list[Box]]) -> set[int]:
        """Fills `positive` and `boxes`; gives the ids of the images with an annotation that is wrong."""
        unusable: set[int] = set()
        label_of = self._label_of()
        for item in self._contents.objects:
            label = label_of.get(item.category_id)
            if isinstance(label, int) and item.image_id in positive:
                positive[item.image_id].add(label)
                if item.box is not None:
                    boxes.setdefault(item.image_id, []).append(Box(label, *item.box))
            else:
                self._problem(f"annotation {shown(item.own_id)} {_what_is_wrong(item, label)}")
                unusable.add(item.image_id)
        return unusable

    def _label_of(self) -> dict[int, int | str]:
        """Category id -> output index, or what is wrong with it."""
        found: dict[int, int | str] = {}
        for number, name in self._contents.labels.items():
            try:
                found[number] = self._labels.index(name)
            except DataError as error:
                found[number] = f"has a label that is not wanted: {error}"
        return found


def _what_is_wrong(item: CocoObject, label: int | str | None) -> str:
    if isinstance(label, str):
        return label
    if label is None:
        return f"has category id {item.category_id}, which is not in the list of categories"
    return f"belongs to image id {item.image_id}, which is not in the list of images"
