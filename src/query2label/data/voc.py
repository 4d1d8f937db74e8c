"""PASCAL VOC folders: `ImageSets/Main` lists with 1, 0 (difficult) and -1, and `Annotations` with boxes.

Labels are those with list files (`<label>_<split>.txt`), in alphabetical order, which is VOC's own; without
lists they are the object names in the XML files. The lists decide which label an image has; XML then only
adds boxes, and objects of other labels are left out and counted in the notes. `trainval` is `train` and `val`
together: images that only its own list has keep it as the name of their split. Images of a split without
labels (VOC 2012's `test`, which a server judges) are left out and noted, unless that split is asked for: then
all their labels are unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from query2label.data.image_root import ImageRoot, is_image_name, is_inside
from query2label.data.samples import Box, Dataset, Problem, ProblemError, Sample
from query2label.data.voc_lists import (
    ABSENT,
    DIFFICULT,
    POSITIVE,
    Listed,
    Marks,
    find_label_lists,
    has_lists_without_marks,
    listed_splits,
    read_marks,
    read_splits,
)
from query2label.data.voc_xml import VocObject, read_objects
from query2label.errors import DataError
from query2label.formats import Difficult
from query2label.labels import LabelSet

_MAX_DEPTH: Final = 3
_MAX_ENTRIES: Final = 30
"""How deep a VOC folder may lie in folders around it, and how much these may hold beside."""

_Objects = dict[str, list[VocObject]]
"""Image id -> its objects."""


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    difficult: Difficult = "ignore",
    image_root: Path | None = None,
    check_files: bool = True,
    only_split: str | None = None,
) -> Dataset:
    """Reads a VOC folder (`VOC2012`), or the one that lies in `path`, wrapped in at most three folders.

    Args:
        path: A folder with `ImageSets/Main` or `Annotations` in it, or a folder around it.
        labels: The label set and its order. A label of the data outside of it is a problem; a label of it
            that the data have no list of is unknown everywhere.
        difficult: What a label is in an image where all its objects are marked difficult: unknown
            (`ignore`), positive, or absent (`negative`).
        image_root: Folder that holds the images; `JPEGImages` where it is left out.
        check_files: Whether a missing image file is a problem.
        only_split: The split that is asked for; its images are kept even if nothing says their labels.

    Raises:
        DataError: If no VOC folder is found, or it names no image or no label.
    """
    folder = find_folder(path)
    if folder is None:
        raise DataError(f"{path} has no VOC data: expected ImageSets/Main or Annotations in it.")
    problems: list[Problem] = []
    lists = folder / "ImageSets" / "Main"
    images = read_splits(lists, problems) or _images_with_xml(folder)
    label_lists = find_label_lists(lists, problems)
    if not images:
        raise DataError(f"{folder} names no image: no train.txt, val.txt, trainval.txt or test.txt.")
    labelled = images
    if label_lists:
        labelled = _of_splits(images, listed_splits(label_lists))
    elif has_lists_without_marks(lists):
        labelled = _of_splits(images, {"train", "val", "trainval"})
    is_secret = bool(images) and not labelled
    if is_secret and (labels is None or only_split is None):
        raise DataError(
            f"{folder} has lists of test images without marks only: nothing says their labels. Predict them "
            "with a model (q2l predict --split test), or unpack trainval's archive there too."
        )
    objects, broken = _read_all_objects(folder, labelled, problems)
    if label_lists or is_secret:
        marks = read_marks(label_lists, labelled, problems)
    else:
        labelled = _of_splits(images, {images[image_id].split for image_id in (*objects, *broken)})
        marks = _marks_of_objects(folder, labelled, objects, broken, problems)
    if not (marks or is_secret):
        raise DataError(f"{folder} names no label: no lists <label>_<split>.txt, no objects in XML files.")
    label_set = labels or LabelSet(sorted(marks))
    places = {label: label_lists[label][0].file if label_lists else folder / "Annotations" for label in marks}
    problems += _labels_outside(places, label_set)
    images, notes = _without_unlabelled(images, labelled, only_split)
    root = ImageRoot(image_root or folder, check_files=check_files)
    paths = _paths(root, images, problems, folder="." if image_root else "JPEGImages")
    targets = {image_id: _targets(image_id, marks, label_set, difficult) for image_id in images}
    samples = [
        Sample(
            image, *targets[image_id], _boxes(objects.get(image_id, ()), label_set), images[image_id].split
        )
        for image_id, image in paths.items()
        if image_id not in broken
    ]
    notes += _objects_left_out(objects, label_set)
    return Dataset(label_set, samples, path, "voc", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether `path` is a VOC folder, or has one in it; several are refused with a `DataError`."""
    return find_folder(path) is not None


def find_folder(path: Path) -> Path | None:
    """The VOC folder meant by `path`; None where there is none.

    Raises:
        DataError: If several lie there, such as VOC2007 and VOC2012.
    """
    if _is_voc(path):
        return path
    found = sorted(folder for folder in _voc_folders(path, _MAX_DEPTH) if is_inside(folder, path))
    if len(found) > 1:
        names = ", ".join(folder.relative_to(path).as_posix() for folder in found[:5])
        raise DataError(f"{path} has several VOC folders in it ({names}): name the one that is meant.")
    return found[0] if found else None


def _voc_folders(path: Path, depth: int) -> Iterator[Path]:
    """The VOC folders below one, which archives wrap in a few folders that hold little else."""
    entries = list(islice(path.iterdir(), _MAX_ENTRIES + 1)) if path.is_dir() else []
    if len(entries) > _MAX_ENTRIES:
        return
    for folder in entries:
        if _is_voc(folder):
            yield folder
        elif depth > 1 and folder.is_dir() and not folder.is_symlink():
            yield from _voc_folders(folder, depth - 1)


def _is_voc(path: Path) -> bool:
    lists = path / "ImageSets" / "Main"
    return lists.is_dir() or ((path / "JPEGImages").is_dir() and (path / "Annotations").is_dir())


def _images_with_xml(folder: Path) -> dict[str, Listed]:
    files = sorted((folder / "Annotations").glob("*.xml"))
    return {file.stem: Listed(None, file, None) for file in files}


def _of_splits(images: Mapping[str, Listed], splits: AbstractSet[str | None]) -> dict[str, Listed]:
    return {image_id: listed for image_id, listed in images.items() if listed.split in splits}


def _without_unlabelled(
    images: Mapping[str, Listed], labelled: Mapping[str, Listed], only_split: str | None
) -> tuple[dict[str, Listed], list[str]]:
    """The images that are used, and a note on each split that is left out because nothing says its labels."""
    splits = {listed.split for listed in labelled.values()} | {only_split}
    counts = Counter(listed.split for listed in images.values() if listed.split not in splits)
    notes = [
        f"Images without labels, left out: {number:,} of split {split} (q2l predict --split {split})."
        for split, number in counts.items()
    ]
    return _of_splits(images, splits), notes


def _read_all_objects(
    folder: Path, images: Mapping[str, Listed], problems: list[Problem]
) -> tuple[_Objects, set[str]]:
    """The objects of the images that have an XML file, and the images whose XML file is wrong."""
    root = ImageRoot(folder)
    objects: _Objects = {}
    broken: set[str] = set()
    for image_id in images:
        try:
            if root.has(f"Annotations/{image_id}.xml"):
                objects[image_id] = read_objects(folder / "Annotations" / f"{image_id}.xml")
        except ProblemError as error:
            problems.append(error.problem)
            broken.add(image_id)
        except DataError:
            continue  # A name that leads outside: told when the image is looked for.
    return objects, broken


def _marks_of_objects(
    folder: Path, images: Mapping[str, Listed], objects: _Objects, broken: set[str], problems: list[Problem]
) -> Marks:
    names = dict.fromkeys(item.name for items in objects.values() for item in items)
    marks: Marks = {name: dict.fromkeys(images, ABSENT) for name in names}
    for image_id, listed in images.items():
        if image_id not in objects and image_id not in broken:
            file = folder / "Annotations" / f"{image_id}.xml"
            problems.append(
                Problem(listed.file, f"image {image_id!r} has neither lists nor {file}", listed.line)
            )
            broken.add(image_id)
        for item in objects.get(image_id, ()):
            mark = DIFFICULT if item.difficult else POSITIVE
            marks[item.name][image_id] = max(mark, marks[item.name][image_id])
    return marks


def _labels_outside(places: Mapping[str, Path], labels: LabelSet) -> list[Problem]:
    problems: list[Problem] = []
    for label in sorted(places):
        try:
            labels.index(label)
        except DataError as error:
            problems.append(Problem(places[label], str(error)))
    return problems


def _targets(
    image_id: str, marks: Marks, labels: LabelSet, difficult: Difficult
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The positive and the unknown labels of an image."""
    positive: list[int] = []
    unknown: list[int] = []
    for index, label in enumerate(labels):
        mark = marks.get(label, {}).get(image_id)
        if mark == POSITIVE or (mark == DIFFICULT and difficult == "positive"):
            positive.append(index)
        elif mark is None or (mark == DIFFICULT and difficult == "ignore"):
            unknown.append(index)
    return tuple(positive), tuple(unknown)


def _boxes(objects: Sequence[VocObject], labels: LabelSet) -> tuple[Box, ...]:
    return tuple(
        Box(labels.index(item.name), item.left, item.top, item.width, item.height, item.width * item.height)
        for item in objects
        if item.name in labels
    )


def _paths(
    root: ImageRoot, images: Mapping[str, Listed], problems: list[Problem], *, folder: str
) -> dict[str, Path]:
    names = _image_names(root.folder / folder)
    paths: dict[str, Path] = {}
    found: list[Problem] = []
    for image_id, listed in images.items():
        try:
            paths[image_id] = root.locate(f"{folder}/{names.get(image_id, f'{image_id}.jpg')}")
        except DataError as error:
            found.append(Problem(listed.file, str(error), listed.line))
    if len(found) > 1 and not paths:
        # One line, not 9,963, where the images have not been downloaded.
        first = found[0]
        found = [replace(first, message=f"none of {len(found):,} images can be used; {first.message}")]
    problems += found
    return paths


def _image_names(folder: Path) -> dict[str, str]:
    """Image id -> file name; JPEG before others where an id has several."""
    if not folder.is_dir():
        return {}
    names = sorted((file.name for file in folder.iterdir() if is_image_name(file.name)), reverse=True)
    names.sort(key=lambda name: name.lower().endswith((".jpg", ".jpeg")))
    return {Path(name).stem: name for name in names}


def _objects_left_out(objects: _Objects, labels: LabelSet) -> list[str]:
    counts = Counter(item.name for items in objects.values() for item in items if item.name not in labels)
    if not counts:
        return []
    named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return [f"Objects whose labels are not in the label set, left out: {named}."]
