"""NUS-WIDE as lists of images with their labels: `train.txt` and `test.txt`, 81 columns of 0 and 1.

Each line names an image and then says of each concept, in the order of `Concepts81.txt` (the alphabetical
one), whether the image shows it; `val.txt` is read too where there is one. The names that the columns have
are those of `Concepts81.txt` where it lies there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from query2label.data.annotation_files import read_label_names
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.listed_images import (
    ListedImage,
    find_images,
    folder_prefixes,
    notes_on_absent,
    outputs_of,
    read_lines,
)
from query2label.data.samples import Dataset, Problem, ProblemError, Sample
from query2label.labels import LabelSet

# fmt: off
CONCEPTS: Final = LabelSet([
    "airport", "animal", "beach", "bear", "birds", "boats", "book", "bridge", "buildings", "cars", "castle",
    "cat", "cityscape", "clouds", "computer", "coral", "cow", "dancing", "dog", "earthquake", "elk", "fire",
    "fish", "flags", "flowers", "food", "fox", "frost", "garden", "glacier", "grass", "harbor", "horses",
    "house", "lake", "leaf", "map", "military", "moon", "mountain", "nighttime", "ocean", "person", "plane",
    "plants", "police", "protest", "railroad", "rainbow", "reflection", "road", "rocks", "running", "sand",
    "sign", "sky", "snow", "soccer", "sports", "statue", "street", "sun", "sunset", "surf", "swimmers",
    "tattoo", "temple", "tiger", "tower", "town", "toy", "train", "tree", "valley", "vehicle", "water",
    "waterfall", "wedding", "whales", "window", "zebra",
])
# fmt: on
CONCEPT_FILES: Final = ("Concepts81.txt", "ConceptsList/Concepts81.txt")
_NUM_CONCEPTS: Final = len(CONCEPTS)
_LISTS: Final = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
_IMAGE_FOLDERS: Final = ("Flickr", "images")
_MAX_LINE_BYTES: Final = 4096


def looks_like(path: Path) -> bool:
    """Whether a folder has a `train.txt` or `test.txt` whose first line has 81 columns of 0 and 1."""
    first = next((path / name for name in _LISTS.values() if (path / name).is_file()), None)
    if first is None:
        return False
    try:
        with first.open("rb") as file:
            line = file.readline(_MAX_LINE_BYTES).decode("utf-8-sig")
    except (OSError, ValueError):
        return False
    return _marks(line) is not None


def read(path: Path, *, labels: LabelSet | None, image_root: Path | None, check_files: bool) -> Dataset:
    """Reads a folder of such lists; the arguments are those of `nuswide.read`.

    Lists that cannot be read, and no image on disk, are each a `DataError`.

    Raises:
        ProblemError: If `Concepts81.txt` does not name 81 concepts.
    """
    problems: list[Problem] = []
    concepts = CONCEPTS
    concept_file = next((path / name for name in CONCEPT_FILES if (path / name).is_file()), None)
    if concept_file is not None:
        refuse_outside(concept_file, path)
        concepts = read_label_names(concept_file)
        if len(concepts) != _NUM_CONCEPTS:
            message = f"names {len(concepts)} concepts, but the lists have {_NUM_CONCEPTS} columns"
            raise ProblemError(concept_file, message)
    label_set = labels or concepts
    outputs = outputs_of(concepts, label_set, concept_file or path, problems)
    unknown = tuple(index for index in range(len(label_set)) if index not in outputs)
    columns = {concepts.index(name): output for output, name in outputs.items()}
    images: list[ListedImage] = []
    positive: list[tuple[int, ...]] = []
    for split, name in _LISTS.items():
        for image, marks in _read_list(path / name, split, path, problems):
            images.append(image)
            positive.append(tuple(sorted(columns[column] for column in marks if column in columns)))
    root = ImageRoot(image_root or path, check_files=check_files)
    found = find_images(root, images, image_places(root), problems)
    samples = [
        Sample(where, present, unknown, split=image.split)
        for image, present, where in zip(images, positive, found.paths, strict=True)
        if where is not None
    ]
    return Dataset(label_set, samples, path, "nuswide", problems, notes_on_absent(found.absent, images))


def image_places(root: ImageRoot) -> Callable[[str], list[str]]:
    """Gives the names that an image of NUS-WIDE's lists may have below a folder."""
    prefixes = folder_prefixes(root, _IMAGE_FOLDERS)

    def places(name: str) -> list[str]:
        relative = name.replace("\\", "/")
        names = dict.fromkeys((relative, relative.rpartition("/")[2]))
        return [prefix + each for prefix in prefixes for each in names]

    return places


def _read_list(
    file: Path, split: str, folder: Path, problems: list[Problem]
) -> list[tuple[ListedImage, list[int]]]:
    """The images of a list with the columns that are 1; a line of another form is a problem."""
    if not file.is_file():
        return []
    rows: list[tuple[ListedImage, list[int]]] = []
    wrong: list[int] = []
    for number, line in enumerate(read_lines(file, inside=folder), start=1):
        marks = _marks(line)
        if marks is None:
            wrong.append(number)
            continue
        name = line.replace(",", " ").rsplit(None, _NUM_CONCEPTS)[0]
        rows.append((ListedImage(name, split, file, number), marks))
    if wrong:
        more = f" (as in {len(wrong) - 1:,} more lines)" if len(wrong) > 1 else ""
        message = f"expected an image and {_NUM_CONCEPTS} columns of 0 and 1{more}"
        problems.append(Problem(file, message, wrong[0]))
    return rows


def _marks(line: str) -> list[int] | None:
    """The columns of a line that are 1; None where it has another form."""
    words = line.replace(",", " ").rsplit(None, _NUM_CONCEPTS)
    if len(words) <= _NUM_CONCEPTS:
        return None
    name, *marks = words
    if name.split()[-1] in {"0", "1"} or not set(marks) <= {"0", "1"}:
        return None  # More columns, or others.
    return [column for column, mark in enumerate(marks) if mark == "1"]
