"""Visual Genome 500: two lists of images, and one JSON file with the label indices of each.

`train_list_500.txt` and `test_list_500.txt` name an image per line, `vg_category_500_labels_index.json` is
`{"2328403.jpg": [0, 17, 421], ...}`; the images lie in `VG_100K` and `VG_100K_2`. The number in the names of
the files is that of the labels. Their names have never been published with them: they are those of
`labels.txt` (one per line, in the order of the indices) where a person has written one, else `label 0` and so
on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from query2label.data.annotation_files import check_size, read_json
from query2label.data.coco_json import shown
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.listed_images import (
    ListedImage,
    find_images,
    folder_prefixes,
    outputs_of,
    problems_of_absent,
    read_list,
)
from query2label.data.samples import Dataset, Problem, ProblemError, Sample
from query2label.data.sidecar import label_file
from query2label.errors import DataError
from query2label.labels import LabelSet

MAX_INDEX_BYTES: Final = 256 * 2**20
"""The published file has less than 10 MiB."""
_INDEX_FILE: Final = re.compile(r"vg_category_([1-9]\d{0,4})_labels_index\.json")
_FOLDERS: Final = (".", "annotations", "ssgrl_partition")
_IMAGE_FOLDERS: Final = ("VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "images")


class _Index(NamedTuple):
    """The JSON file."""

    file: Path
    num_labels: int


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads a folder with the lists and the index file.

    Args:
        path: The folder; the files are right in it, or in `annotations` or `ssgrl_partition`.
        labels: The label set and its order. A label of the data outside of it is a problem; a label of it
            that the data do not have is unknown everywhere.
        image_root: Folder that holds the images, perhaps in `VG_100K` and `VG_100K_2`.
        check_files: Whether a missing image file is a problem.

    Raises:
        DataError: If there is no index file, or there are no lists.
    """
    index = _find_index(path)
    if index is None:
        raise DataError(f"{path} has no Visual Genome 500 data: expected vg_category_500_labels_index.json.")
    problems: list[Problem] = []
    images = [image for split in ("train", "test") for image in _images(path, index, split, problems)]
    if not images:
        raise DataError(f"{problems[0]}.")
    refuse_outside(index.file, path)
    indices = _read_index(index.file)
    names = _names(path, index)
    label_set = labels or names
    outputs = outputs_of(names, label_set, index.file, problems)
    output_of = {names.index(name): output for output, name in outputs.items()}
    unknown = tuple(output for output in range(len(label_set)) if output not in outputs)
    root = ImageRoot(image_root or path, check_files=check_files)
    found = find_images(root, images, _places(root), problems)
    problems += problems_of_absent(found.absent, root.folder)
    samples: list[Sample] = []
    for image, place in zip(images, found.paths, strict=True):
        try:
            numbers = _labels_of(image, indices, index)
        except ProblemError as error:
            problems.append(error.problem)
            continue
        if place is not None:
            positive = sorted(output_of[number] for number in numbers if number in output_of)
            samples.append(Sample(place, tuple(positive), unknown, split=image.split))
    return Dataset(label_set, samples, path, "vg500", problems, _notes(images, indices, index))


def looks_like(path: Path) -> bool:
    """Whether a folder has an index file as Visual Genome 500's in it."""
    return _find_index(path) is not None


def _find_index(path: Path) -> _Index | None:
    for folder in _FOLDERS:
        for file in sorted((path / folder).glob("vg_category_*_labels_index.json")):
            match = _INDEX_FILE.fullmatch(file.name)
            if match is not None:
                return _Index(file, int(match[1]))
    return None


def _images(path: Path, index: _Index, split: str, problems: list[Problem]) -> list[ListedImage]:
    file = index.file.with_name(f"{split}_list_{index.num_labels}.txt")
    images: list[ListedImage] = []
    try:
        if not file.is_file():
            raise ProblemError(file, f"is missing: it names the images of the split {split}")
        images = read_list(file, split, inside=path)
        if not images:
            raise ProblemError(file, "names no image")
    except ProblemError as error:
        problems.append(error.problem)
    return images


def _read_index(file: Path) -> dict[str, Any]:
    """Image name -> what stands there, which is to be a list of indices.

    Raises:
        ProblemError: If the file's value is no object.
    """
    check_size(file, MAX_INDEX_BYTES)
    value = read_json(file)
    if not isinstance(value, dict):
        raise ProblemError(file, 'is not {"image.jpg": [label index, ...], ...}')
    return value


def _names(path: Path, index: _Index) -> LabelSet:
    """The names of the labels, in the order of their indices.

    Raises:
        ProblemError: If `labels.txt` names more or fewer.
    """
    names = label_file(path)
    if names is None:
        return LabelSet(f"label {number}" for number in range(index.num_labels))
    if len(names) != index.num_labels:
        message = f"names {len(names)} labels in labels.txt or classes.txt, but {index.file.name} is of "
        raise ProblemError(path, f"{message}{index.num_labels}")
    return names


def _places(root: ImageRoot) -> Callable[[str], list[str]]:
    prefixes = folder_prefixes(root, _IMAGE_FOLDERS)
    return lambda name: [prefix + name for prefix in prefixes]


def _labels_of(image: ListedImage, indices: dict[str, Any], index: _Index) -> set[int]:
    """The label indices of an image.

    Raises:
        ProblemError: If it has none, or one is no index.
    """
    if image.name not in indices:
        raise ProblemError(image.file, f"image {image.name!r} is not in {index.file.name}", image.line)
    numbers = indices[image.name]
    if not isinstance(numbers, list):
        raise ProblemError(
            index.file, f"image {image.name!r} has {shown(numbers)}: expected a list of indices"
        )
    last = index.num_labels - 1
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= last:
            message = f"image {image.name!r} has the label index {shown(number)}: expected 0 to {last}"
            raise ProblemError(index.file, message)
    return set(numbers)


def _notes(images: list[ListedImage], indices: dict[str, Any], index: _Index) -> list[str]:
    num_others = len(indices.keys() - {image.name for image in images})
    return (
        [f"Images of {index.file.name} that no list names, left out: {num_others:,}."] if num_others else []
    )
