"""The lists in a PASCAL VOC folder's `ImageSets/Main`: which image is in which split, with which labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from query2label.data.annotation_files import STANDARD_SPLITS, check_label_name, read_text
from query2label.data.image_root import refuse_outside
from query2label.data.samples import Problem
from query2label.errors import DataError

POSITIVE, DIFFICULT, ABSENT = 1, 0, -1
_MARKS: Final = {"1": POSITIVE, "+1": POSITIVE, "0": DIFFICULT, "-1": ABSENT}
_SPLIT_ORDER: Final = ("train", "val", "test", "trainval")

Marks = dict[str, dict[str, int]]
"""Label -> image id -> 1, 0 (difficult) or -1."""


class Listed(NamedTuple):
    """In which split an image is, and where that is said."""

    split: str | None
    file: Path
    line: int | None


class LabelList(NamedTuple):
    """One label's marks for the images of one split."""

    split: str
    file: Path


def read_splits(lists: Path, problems: list[Problem]) -> dict[str, Listed]:
    """Image id -> split, in the order of train.txt, val.txt, test.txt, and what only trainval.txt has."""
    found: dict[str, Listed] = {}
    for split in _SPLIT_ORDER:
        file = lists / f"{split}.txt"
        for line, words in _lines(file) if file.is_file() else ():
            first = found.setdefault(words[0], Listed(split, file, line))
            is_repetition = split == "trainval" and first.split in {"train", "val"}
            if (first.file, first.line) != (file, line) and not is_repetition:
                message = f"image {words[0]!r} stands already in {first.file.name}:{first.line}"
                problems.append(Problem(file, message, line))
    return found


def find_label_lists(lists: Path, problems: list[Problem]) -> dict[str, list[LabelList]]:
    """Label -> its list files (`<label>_<split>.txt`), by name; test lists without marks say nothing."""
    found: dict[str, list[LabelList]] = {}
    for file in sorted(lists.glob("*_*.txt")):
        label, _, split = file.stem.rpartition("_")
        if split not in STANDARD_SPLITS or (split == "test" and _has_no_marks(file)):
            continue
        try:
            check_label_name(label)
            found.setdefault(label, []).append(LabelList(split, file))
        except DataError as error:
            problems.append(Problem(file, str(error)))
    return found


def has_lists_without_marks(lists: Path) -> bool:
    """Whether labels have lists of test images without marks, as the server's secrets do."""
    return any(_has_no_marks(file) for file in lists.glob("*_test.txt"))


def _has_no_marks(file: Path) -> bool:
    return all(len(words) == 1 for _, words in _lines(file))


def listed_splits(label_lists: dict[str, list[LabelList]]) -> set[str]:
    """The splits that label lists speak of; `trainval` speaks of `train` and `val` too."""
    splits = {part.split for parts in label_lists.values() for part in parts}
    if "trainval" in splits or {"train", "val"} <= splits:
        splits |= {"train", "val", "trainval"}
    return splits


def read_marks(
    label_lists: dict[str, list[LabelList]], images: dict[str, Listed], problems: list[Problem]
) -> Marks:
    """The marks of all labels; images that a label's lists leave out are one problem per label."""
    marks: Marks = {}
    with_trainval = any(listed.split == "trainval" for listed in images.values())
    for label, parts in label_lists.items():
        marks[label] = {}
        # The lists of train and val say all that trainval's says, unless they are missing.
        is_covered = {"train", "val"} <= {part.split for part in parts} and not with_trainval
        for part in parts:
            if not (part.split == "trainval" and is_covered):
                _read_list(part.file, marks[label], problems)
        missing = [image_id for image_id in images if image_id not in marks[label]]
        if missing:
            message = f"label {label!r} has no line for {len(missing)} images; the first is {missing[0]!r}"
            problems.append(Problem(parts[0].file, message))
    return marks


def _read_list(file: Path, marks: dict[str, int], problems: list[Problem]) -> None:
    for line, words in _lines(file):
        mark = _MARKS.get(words[1]) if len(words) == 2 else None
        if mark is None:
            text = " ".join(words)[:60]
            problems.append(Problem(file, f"expected an image and 1, 0 or -1, found {text!r}", line))
        elif marks.setdefault(words[0], mark) != mark:
            message = f"image {words[0]!r} has {mark} here, but {marks[words[0]]} elsewhere"
            problems.append(Problem(file, message, line))


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, as words, with their numbers."""
    refuse_outside(file, file.parents[2])
    lines = enumerate(read_text(file).split("\n"), start=1)
    return [(number, words) for number, line in lines if (words := line.split())]
