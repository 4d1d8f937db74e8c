"""Writing a data set as a table that the table reader gives back as it was (but for boxes)."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path

from query2label.data.annotation_files import check_label_name
from query2label.data.label_cells import DELIMITERS
from query2label.data.samples import Dataset
from query2label.data.table import label_file_of
from query2label.errors import DataError
from query2label.storage import atomic_file


def write_table(dataset: Dataset, path: Path) -> Path:
    """Writes a CSV table with the columns image, labels, unknown and split, and the label order beside it.

    The labels in a cell are joined by `|`, or written as a JSON list where a label has a delimiter in its
    name. The file `<name>.labels.txt` beside the table keeps the label set and its order. Columns that would
    be empty (unknown, split) are left out; boxes are not written.

    Args:
        dataset: What to write; read back, it has equal labels and samples.
        path: A name that ends with `.csv`.

    Returns:
        The folder that image names in the table are relative to: the table's own if all images are below it,
        else the deepest folder around all images, which reading the table then needs as its `image_root`.

    Raises:
        DataError: If the name does not end with `.csv`, or a file or label name cannot stand in a table.
    """
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} has to end with .csv, as it becomes a CSV table.")
    for label in dataset.labels:
        check_label_name(label)
    root, names = _image_names(dataset, path)
    as_json = any(mark in label for label in dataset.labels for mark in f"{DELIMITERS}[")
    has_unknown = any(sample.unknown for sample in dataset.samples)
    has_split = any(sample.split for sample in dataset.samples)
    with atomic_file(label_file_of(path)) as file:
        file.write("".join(f"{label}\n" for label in dataset.labels))
    with atomic_file(path) as file:
        # RFC 4180's line ends, with which a file name that holds one of the two is quoted.
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["image", "labels", *["unknown"] * has_unknown, *["split"] * has_split])
        for name, sample in zip(names, dataset.samples, strict=True):
            row = [name, _cell((dataset.labels[index] for index in sample.positive), as_json=as_json)]
            if has_unknown:
                row.append(_cell((dataset.labels[index] for index in sample.unknown), as_json=as_json))
            writer.writerow([*row, sample.split or ""] if has_split else row)
    return root


def _cell(labels: Iterable[str], *, as_json: bool) -> str:
    names = list(labels)
    if as_json:
        return json.dumps(names, ensure_ascii=False) if names else ""
    return "|".join(names)


def _image_names(dataset: Dataset, table: Path) -> tuple[Path, list[str]]:
    paths = [os.path.abspath(sample.path) for sample in dataset.samples]  # noqa: PTH100 (keeps links)
    root = os.path.abspath(table.parent)  # noqa: PTH100
    if not all(path.startswith(root.rstrip("/") + "/") for path in paths):
        root = os.path.commonpath([os.path.abspath(sample.file.parent) for sample in dataset.samples])  # noqa: PTH100
    names = [os.path.relpath(path, root) for path in paths]
    for name in names:
        if name != name.strip() or "\\" in name or not _is_unicode(name):
            raise DataError(f"Image name {name!r} cannot stand in a table: rename the file.")
    return Path(root), names


def _is_unicode(name: str) -> bool:
    """Whether a file name is text at all: on Linux it may be any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
