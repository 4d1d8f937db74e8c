"""One folder of images per label: an image that lies in several folders under one name has all their labels.

`cat/1.jpg`, `dog/1.jpg` are one image with two labels; they have to be the same file, byte by byte. Folders
called `train`, `val` or `test` (or `training`, `valid`, ...) above the labels are splits. Labels are in
alphabetical order, unless `labels.txt` or `classes.txt` in the folder fixes it.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

from query2label.data.annotation_files import STANDARD_SPLITS, check_label_name, split_name
from query2label.data.image_root import ImageRoot, is_image_name
from query2label.data.samples import Dataset, Problem, Sample
from query2label.data.sidecar import label_file
from query2label.errors import DataError
from query2label.labels import LabelSet

_LabelFolder = tuple[str | None, str, Path]
"""Split, label, folder."""


def read(path: Path, *, labels: LabelSet | None = None) -> Dataset:
    """Reads a folder with one folder per label, optionally below folders of splits.

    Args:
        path: The folder.
        labels: The label set and its order, before any file's; a folder that is not in it is a problem.

    Returns:
        The images by split and name; the path of one with several labels is that of the first.

    Raises:
        DataError: If there are no folders of labels.
    """
    problems: list[Problem] = []
    label_folders = list(_label_folders(path))
    if not label_folders:
        raise DataError(f"{path} has no folders with images: expected one folder per label.")
    fixed = labels or label_file(path)
    usable = [part for part in label_folders if _is_usable(part, fixed, problems)]
    if not usable:
        raise DataError(f"{problems[0]}.")
    label_set = fixed or LabelSet(sorted({label for _, label, _ in usable}))
    root = ImageRoot(path)
    found: dict[tuple[str | None, str], tuple[Path, set[int]]] = {}
    for split, label, folder in usable:
        for image in _images(root, folder, problems):
            first, positive = found.setdefault((split, image.name), (image, set()))
            if first is not image and not filecmp.cmp(first, image, shallow=False):
                problems.append(Problem(image, f"has the name of {first}, but is another image: rename one"))
                continue
            positive.add(label_set.index(label))
    problems += _stray_images(path, label_folders)
    samples = [
        Sample(image, tuple(sorted(positive)), split=split)
        for (split, _), (image, positive) in sorted(
            found.items(), key=lambda item: (item[0][0] or "", item[0][1])
        )
    ]
    return Dataset(label_set, samples, path, "folders", problems)


def looks_like(path: Path) -> bool:
    """Whether at least two folders of labels have images right in them."""
    labels = {
        label
        for _, label, folder in _label_folders(path)
        if any(is_image_name(part.name) for part in folder.iterdir())
    }
    return len(labels) > 1


def _label_folders(path: Path) -> Iterator[_LabelFolder]:
    tops = _subfolders(path)
    if tops and all(split_name(top.name) in STANDARD_SPLITS for top in tops):
        for top in tops:
            for folder in _subfolders(top):
                yield split_name(top.name), folder.name, folder
    else:
        for folder in tops:
            yield None, folder.name, folder


def _subfolders(path: Path) -> list[Path]:
    return sorted(part for part in path.iterdir() if part.is_dir() and not part.name.startswith("."))


def _is_usable(part: _LabelFolder, fixed: LabelSet | None, problems: list[Problem]) -> bool:
    _, label, folder = part
    try:
        check_label_name(label)
        if fixed is not None:
            fixed.index(label)
    except DataError as error:
        problems.append(Problem(folder, str(error)))
        return False
    return True


def _images(root: ImageRoot, folder: Path, problems: list[Problem]) -> Iterator[Path]:
    for part in sorted(folder.iterdir()):
        if part.is_dir() and not part.name.startswith("."):
            problems.append(Problem(part, "is a folder in a label's folder: images belong right into that"))
        elif is_image_name(part.name):
            try:
                yield root.locate(part.relative_to(root.folder).as_posix())
            except DataError as error:
                problems.append(Problem(part, str(error)))


def _stray_images(path: Path, label_folders: list[_LabelFolder]) -> list[Problem]:
    above = {folder.parent for _, _, folder in label_folders} | {path}
    return [
        Problem(part, "is an image outside of the folders of labels")
        for folder in sorted(above)
        for part in sorted(folder.iterdir())
        if is_image_name(part.name) and part.is_file()
    ]
