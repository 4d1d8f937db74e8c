"""Images with a `.txt` of labels beside each: one label per line, or several with commas between them.

`dog.jpg` has its labels in `dog.txt`; an empty file says that no label is in the image. Subfolders called
`train`, `val` or `test` (or `training`, `valid`, ...) right below the folder are splits; others are just
folders. `labels.txt` or `classes.txt` in the folder, one name per line, fixes the labels and their order;
else they are in alphabetical order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from query2label.data.annotation_files import (
    STANDARD_SPLITS,
    check_label_name,
    read_label_names,
    read_text,
    split_name,
)
from query2label.data.image_root import ImageRoot, is_image_name, refuse_outside, walk_files
from query2label.data.samples import Dataset, Problem, ProblemError, Sample
from query2label.data.yolo_lines import is_yolo_line
from query2label.errors import DataError
from query2label.labels import LabelSet

LABEL_FILES: Final = ("labels.txt", "classes.txt")
_MAX_LABEL_FILE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class _Image:
    path: Path
    label_file: Path
    names: dict[str, int]
    """Label -> line."""
    split: str | None


def read(path: Path, *, labels: LabelSet | None = None) -> Dataset:
    """Reads a folder of images with label files.

    Args:
        path: The folder; images are looked for in all its subfolders too.
        labels: The label set and its order, before any file's; a label that is not in it is a problem.

    Returns:
        The images in the order of their names; those without a label file are problems. It is refused with a
        `ProblemError` if `labels.txt` cannot be read, or no image has a label.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    images: list[_Image] = []
    root = ImageRoot(path)
    for folder, names in walk_files(path):
        images += _folder_images(root, folder, names, problems, warnings)
    label_set = labels or label_file(path) or _used(path, images, problems)
    samples = []
    for image in images:
        try:
            positive = tuple(sorted(_index(image, name, label_set) for name in image.names))
            samples.append(Sample(image.path, positive, split=image.split))
        except ProblemError as error:
            problems.append(error.problem)
    return Dataset(label_set, samples, path, "sidecar", problems, warnings=warnings)


def looks_like(path: Path) -> bool:
    """Whether any image below the folder has a `.txt` beside it."""
    return any(
        is_image_name(name) and f"{Path(name).stem}.txt" in names
        for _, names in walk_files(path)
        for name in names
    )


def label_file(path: Path) -> LabelSet | None:
    """The labels that `labels.txt` or `classes.txt` in a folder names; None where there is no such file."""
    files = [path / name for name in LABEL_FILES if (path / name).is_file()]
    if not files:
        return None
    refuse_outside(files[0], path)
    return read_label_names(files[0])


def _folder_images(
    root: ImageRoot, folder: Path, names: list[str], problems: list[Problem], warnings: list[Problem]
) -> list[_Image]:
    split = split_of(folder.relative_to(root.folder))
    images: list[_Image] = []
    with_image: dict[str, str] = {}
    for name in filter(is_image_name, names):
        path = folder / name
        file = path.with_suffix(".txt")
        if path.stem in with_image:
            problems.append(Problem(path, f"has the same label file as {with_image[path.stem]}: rename one"))
            continue
        with_image[path.stem] = name
        try:
            for each in (name, file.name):
                _check_inside(root, folder, each)
            images.append(_Image(path, file, _names(file, warnings), split))
        except ProblemError as error:
            problems.append(error.problem)
    if with_image:
        known = LABEL_FILES if folder == root.folder else ()
        alone = [name for name in names if name.endswith(".txt") and Path(name).stem not in with_image]
        problems += [Problem(folder / name, "has no image beside it") for name in alone if name not in known]
    return images


def _check_inside(root: ImageRoot, folder: Path, name: str) -> None:
    try:
        root.locate((folder.relative_to(root.folder) / name).as_posix())
    except DataError as error:
        if name.endswith(".txt") and "symbolic link" not in str(error):
            raise ProblemError(folder / name, "is missing: each image needs its labels") from error
        raise ProblemError(folder / name, str(error)) from error


def _names(file: Path, warnings: list[Problem]) -> dict[str, int]:
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(file, max_bytes=_MAX_LABEL_FILE_BYTES).split("\n"), start=1):
        if is_yolo_line(line):
            reason = "has numbers of a box (YOLO), not names: name the classes in data.yaml or classes.txt"
            raise ProblemError(file, reason, number)
        for part in line.split(","):
            name = part.strip()
            if name in names:
                warnings.append(Problem(file, f"label {name!r} is given twice", number))
            elif name:
                names[name] = number
    return names


def _used(path: Path, images: list[_Image], problems: list[Problem]) -> LabelSet:
    names = sorted({name for image in images for name in image.names})
    if not names:
        first = f"; the first problem: {problems[0]}" if problems else ""
        raise ProblemError(path, f"has no label in any of the files beside its images{first}")
    for image in images:
        for name, line in image.names.items():
            try:
                check_label_name(name)
            except DataError as error:
                raise ProblemError(image.label_file, str(error), line) from error
    return LabelSet(names)


def _index(image: _Image, name: str, labels: LabelSet) -> int:
    try:
        return labels.index(name)
    except DataError as error:
        raise ProblemError(image.label_file, str(error), image.names[name]) from error


def split_of(relative: Path) -> str | None:
    """The split that a folder's first part names; None where it names none."""
    name = split_name(relative.parts[0]) if relative.parts else ""
    return name if name in STANDARD_SPLITS else None
