"""PASCAL VOC folders: `ImageSets/Main` lists with 1, 0 (difficult) and -1, and `Annotations` with boxes.

Labels are those with list files (`<label>_<split>.txt`), in alphabetical order, which is VOC's own; without
lists they are the object names in the XML files. The lists decide which label an image has; XML then only adds
boxes, and objects of other labels are left out and counted in the notes. `trainval` is `train` and `val`
together: images that only its own list has keep it as the name of their split.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, Literal

from query2label.data.annotation_files import STANDARD_SPLITS, check_label_name, read_text
from query2label.data.image_root import ImageRoot, is_image_name
from query2label.data.samples import Box, Dataset, Problem, ProblemError, Sample
from query2label.data.voc_xml import VocObject, read_objects
from query2label.errors import DataError
from query2label.labels import LabelSet

Difficult = Literal["ignore", "positive", "negative"]
_SPLIT_ORDER: Final = ("train", "val", "test", "trainval")
_POSITIVE, _DIFFICULT, _ABSENT = 1, 0, -1
_MARKS: Final = {"1": _POSITIVE, "+1": _POSITIVE, "0": _DIFFICULT, "-1": _ABSENT}
Marks = dict[str, dict[str, int]]
"""Label -> image id -> 1, 0 or -1."""


def read(
    path: Path,
    *,
    labels: LabelSet | None = None,
    difficult: Difficult = "ignore",
    image_root: Path | None = None,
    check_files: bool = True,
) -> Dataset:
    """Reads a VOC folder (`VOC2012`), or the one that lies in `path` or in `path/VOCdevkit`.

    Args:
        path: A folder with `ImageSets/Main` or `Annotations` in it, or a folder around it.
        labels: The label set and its order. A label of the data outside of it is a problem; a label of it that
            the data have no list of is unknown everywhere.
        difficult: What a label is in an image where all its objects are marked difficult: unknown
            (`ignore`), positive, or absent (`negative`).
        image_root: Folder that holds the images; `JPEGImages` where it is left out.
        check_files: Whether a missing image file is a problem.

    Raises:
        DataError: If no VOC folder, or more than one, is found, or it names no images.
    """
    folder = find_folder(path)
    if folder is None:
        raise DataError(f"{path} has no VOC data: expected ImageSets/Main or Annotations in it.")
    reader = _FolderReader(folder, labels, difficult)
    root = ImageRoot(image_root or folder / "JPEGImages", check_files=check_files)
    samples = reader.samples(root)
    return Dataset(reader.labels, samples, path, "voc", reader.problems, reader.notes())


def find_folder(path: Path) -> Path | None:
    """The VOC folder meant by `path`; None where there is none.

    Raises:
        DataError: If several lie there, such as VOC2007 and VOC2012.
    """
    if _is_voc(path):
        return path
    found = sorted(
        folder for pattern in ("*", "VOCdevkit/*") for folder in path.glob(pattern) if _is_voc(folder)
    )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:5])
        raise DataError(f"{path} has several VOC folders in it ({names}): name the one that is meant.")
    return found[0] if found else None


def _is_voc(path: Path) -> bool:
    lists = path / "ImageSets" / "Main"
    return lists.is_dir() or ((path / "JPEGImages").is_dir() and (path / "Annotations").is_dir())


class _FolderReader:
    """Reads the lists and XML files of one folder, and collects what is wrong with them."""

    def __init__(self, folder: Path, labels: LabelSet | None, difficult: Difficult) -> None:
        self.problems: list[Problem] = []
        self._folder = folder
        self._lists = folder / "ImageSets" / "Main"
        self._difficult = difficult
        self._outside: Counter[str] = Counter()
        self._splits = self._read_splits()
        self._objects = self._read_all_objects()
        files = self._label_files()
        self._marks = self._read_marks(files) if files else self._marks_of_objects()
        if not self._marks:
            raise DataError(
                f"{folder} names no label: no list files <label>_<split>.txt, no objects in XML files."
            )
        self.labels = labels or LabelSet(sorted(self._marks))
        self._refuse_labels_outside(files)

    def samples(self, root: ImageRoot) -> list[Sample]:
        """One sample for each image in the lists, in their order."""
        names = _image_names(root.folder)
        samples: list[Sample] = []
        for image_id, (split, file, line) in self._splits.items():
            if image_id in self._without_objects:
                continue
            try:
                path = root.locate(names.get(image_id, f"{image_id}.jpg"))
            except DataError as error:
                self.problems.append(Problem(file, str(error), line))
                continue
            positive, unknown = self._targets(image_id)
            samples.append(Sample(path, positive, unknown, self._boxes(image_id), split))
        return samples

    def notes(self) -> list[str]:
        """How many objects of which other labels were left out."""
        if not self._outside:
            return []
        counts = ", ".join(f"{name} {count}" for name, count in self._outside.most_common())
        return [f"Objects in XML files whose labels are not in the label set, left out: {counts}."]

    def _read_splits(self) -> dict[str, tuple[str | None, Path, int | None]]:
        """Image id -> its split, and where that is said."""
        found: dict[str, tuple[str | None, Path, int | None]] = {}
        for split in _SPLIT_ORDER:
            file = self._lists / f"{split}.txt"
            if not file.is_file():
                continue
            for line, words in _lines(file):
                first = found.get(words[0])
                if first is None:
                    found[words[0]] = (split, file, line)
                elif split != "trainval" or first[0] == "test":
                    message = f"image {words[0]!r} stands already in {first[1].name}:{first[2]}"
                    self.problems.append(Problem(file, message, line))
        if not found:
            for file in sorted((self._folder / "Annotations").glob("*.xml")):
                found[file.stem] = (None, file, None)
        if not found:
            raise DataError(
                f"{self._folder} names no image: no train.txt, val.txt, trainval.txt or test.txt."
            )
        return found

    def _read_all_objects(self) -> dict[str, list[VocObject]]:
        """Image id -> objects, for the images that have an XML file."""
        self._without_objects: set[str] = set()
        root = ImageRoot(self._folder / "Annotations")
        objects: dict[str, list[VocObject]] = {}
        for image_id in self._splits:
            try:
                if root.has(f"{image_id}.xml"):
                    objects[image_id] = read_objects(root.folder / f"{image_id}.xml")
            except ProblemError as error:
                self.problems.append(error.problem)
                self._without_objects.add(image_id)
            except DataError:
                continue  # A name that leads outside: told when the image is looked for.
        return objects

    def _label_files(self) -> dict[str, list[tuple[str, Path]]]:
        """Label -> its list files with the splits they are for."""
        found: dict[str, list[tuple[str, Path]]] = {}
        for file in sorted(self._lists.glob("*_*.txt")):
            label, _, split = file.stem.rpartition("_")
            if split in STANDARD_SPLITS and label:
                found.setdefault(label, []).append((split, file))
        return found

    def _read_marks(self, files: dict[str, list[tuple[str, Path]]]) -> Marks:
        marks: Marks = {}
        splits = {split for split, _, _ in self._splits.values()}
        for label, lists in files.items():
            try:
                check_label_name(label)
            except DataError as error:
                self.problems.append(Problem(lists[0][1], str(error)))
                continue
            marks[label] = {}
            # The lists of train and val say all that trainval's says, unless they are missing.
            covered = {split for split, _ in lists}
            for split, file in lists:
                if split != "trainval" or "trainval" in splits or not {"train", "val"} <= covered:
                    self._read_list(file, marks[label])
            self._report_unlisted(label, lists, marks[label])
        return marks

    def _read_list(self, file: Path, marks: dict[str, int]) -> None:
        for line, words in _lines(file):
            mark = _MARKS.get(words[1]) if len(words) == 2 else None
            if mark is None:
                text = " ".join(words)[:60]
                message = f"expected an image name and 1, 0 or -1, found {text!r}"
                self.problems.append(Problem(file, message, line))
            elif marks.setdefault(words[0], mark) != mark:
                message = f"image {words[0]!r} has {mark} here but {marks[words[0]]} in another line or list"
                self.problems.append(Problem(file, message, line))

    def _report_unlisted(self, label: str, lists: list[tuple[str, Path]], marks: dict[str, int]) -> None:
        missing = [image_id for image_id in self._splits if image_id not in marks]
        if missing:
            message = f"label {label!r} has no line for {len(missing)} images; the first is {missing[0]!r}"
            self.problems.append(Problem(lists[0][1], message))

    def _marks_of_objects(self) -> Marks:
        marks: Marks = {item.name: {} for objects in self._objects.values() for item in objects}
        for image_id, objects in self._objects.items():
            for item in objects:
                mark = _DIFFICULT if item.difficult else _POSITIVE
                marks[item.name][image_id] = max(mark, marks[item.name].get(image_id, _ABSENT))
        return marks

    def _refuse_labels_outside(self, files: dict[str, list[tuple[str, Path]]]) -> None:
        for label in sorted(self._marks):
            try:
                self.labels.index(label)
            except DataError as error:
                place = files[label][0][1] if label in files else self._folder / "Annotations"
                self.problems.append(Problem(place, str(error)))

    def _targets(self, image_id: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        positive: list[int] = []
        unknown: list[int] = []
        for index, label in enumerate(self.labels):
            marks = self._marks.get(label)
            has_lists = marks is not None
            mark = marks.get(image_id, _ABSENT) if marks is not None else _ABSENT
            if mark == _POSITIVE or (mark == _DIFFICULT and self._difficult == "positive"):
                positive.append(index)
            elif not has_lists or (mark == _DIFFICULT and self._difficult == "ignore"):
                unknown.append(index)
        return tuple(positive), tuple(unknown)

    def _boxes(self, image_id: str) -> tuple[Box, ...]:
        boxes: list[Box] = []
        for item in self._objects.get(image_id, ()):
            if item.name in self.labels:
                area = item.width * item.height
                boxes.append(
                    Box(self.labels.index(item.name), item.left, item.top, item.width, item.height, area)
                )
            else:
                self._outside[item.name] += 1
        return tuple(boxes)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, as words, with their numbers."""
    lines = enumerate(read_text(file).split("\n"), start=1)
    return [(number, words) for number, line in lines if (words := line.split())]


def _image_names(folder: Path) -> dict[str, str]:
    """Image id -> file name; JPEG before others where an id has several."""
    if not folder.is_dir():
        return {}
    names = sorted((file.name for file in folder.iterdir() if is_image_name(file.name)), reverse=True)
    names.sort(key=lambda name: name.lower().endswith((".jpg", ".jpeg")))
    return {Path(name).stem: name for name in names}
