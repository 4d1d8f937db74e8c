"""Where Open Images' label files lie, and what its labels are called."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from query2label.data.annotation_files import check_label_name, read_text
from query2label.data.image_root import refuse_outside
from query2label.data.samples import ProblemError
from query2label.errors import DataError

_FOLDERS: Final = (".", "annotations", "labels", "metadata", "csv", "csv_folder")
_SPLITS: Final = ("train", "validation", "test")
_LABEL_FILE: Final = re.compile(
    r"(?:.+-)?(train|validation|test)-annotations-(human|machine)-imagelabels.*\.csv"
)
_SPLIT_FILES: Final = ("labels/classifications.csv", "annotations-human.csv")
"""What FiftyOne saves, and what versions 2 and 3 have, in the folder of a split."""
_MAX_CLASS_FILE_BYTES: Final = 64 * 2**20


class LabelFile(NamedTuple):
    """A file with rows ImageID, Source, LabelName, Confidence."""

    path: Path
    folder: str
    """What the split is called in names of files and folders: `train`, `validation` or `test`."""
    is_human: bool
    """Whether people have verified the labels in it."""


def label_files(path: Path) -> list[LabelFile]:
    """The label files in a folder, by split: as published (in any version), or as FiftyOne saves them."""
    found = []
    for place in _FOLDERS:
        for file in sorted((path / place).glob("*-imagelabels*.csv")):
            match = _LABEL_FILE.fullmatch(file.name)
            if match is not None:
                found.append(LabelFile(file, match[1], match[2] == "human"))
    found += [
        LabelFile(file, split, is_human=True)
        for split in _SPLITS
        for name in _SPLIT_FILES
        if (file := path / split / name).is_file()
    ]
    return sorted(found, key=lambda file: _SPLITS.index(file.folder))


def read_class_names(path: Path) -> dict[str, str]:
    """Id of a label (`/m/...`) -> its name, as all `*class-descriptions*.csv` have it; empty without any.

    A name that several labels share gets the id behind it. Files that cannot be read, and names that are
    unfit, are refused with a `ProblemError`.
    """
    names: dict[str, str] = {}
    for file in _class_files(path):
        for label, name in _class_rows(file, inside=path):
            names.setdefault(label, name)
    counts = Counter(names.values())
    return {label: name if counts[name] == 1 else f"{name} ({label})" for label, name in names.items()}


def read_trainable(path: Path) -> set[str] | None:
    """The ids in `*classes-trainable*.txt`; None where there is no such file.

    One that cannot be read is refused with a `ProblemError`.
    """
    files = sorted(file for place in _FOLDERS for file in (path / place).glob("*classes-trainable*.txt"))
    if not files:
        return None
    for file in files:
        refuse_outside(file, path)
    return {word for file in files for word in read_text(file, max_bytes=_MAX_CLASS_FILE_BYTES).split()}


def _class_files(path: Path) -> list[Path]:
    """The files with names, those of all labels before those of labels with boxes."""
    published = [file for place in _FOLDERS for file in (path / place).glob("*class-descriptions*.csv")]
    saved = [path / split / "metadata" / "classes.csv" for split in _SPLITS]
    ordered = sorted(published, key=lambda file: ("boxable" in file.name, file))
    return [*ordered, *(file for file in saved if file.is_file())]


def _class_rows(file: Path, *, inside: Path) -> Iterator[tuple[str, str]]:
    """The ids and names in a file, with or without a header.

    Raises:
        ProblemError: If a row has other than two cells, or a name is unfit.
    """
    refuse_outside(file, inside)
    text = read_text(file, max_bytes=_MAX_CLASS_FILE_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells) and not (rows.line_num == 1 and cells[0].lower() == "labelname"):
                yield _label_and_name(cells)
    except (csv.Error, DataError) as error:
        raise ProblemError(file, f"this row cannot be read: {error}", rows.line_num) from error


def _label_and_name(cells: list[str]) -> tuple[str, str]:
    if len(cells) != 2 or not cells[0]:
        raise DataError(f"expected a label's id and its name, found {','.join(cells)[:60]!r}")
    check_label_name(cells[1])
    return cells[0], cells[1]
