"""`load_dataset`: any of the layouts, found by looking at the path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from query2label.data.annotation_files import split_name
from query2label.data.readers import ReadOptions, find_reader, read_as
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.formats import DataFormat, DataFormatOrAuto, Difficult
from query2label.labels import LabelSet

_NUM_SHOWN: Final = 3


def load_dataset(
    path: Path | str,
    *,
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
    split: str | None = None,
    labels: LabelSet | None = None,
    difficult: Difficult = "ignore",
    image_root: Path | str | None = None,
    check_files: bool = True,
    on_problem: Literal["raise", "keep"] = "raise",
) -> Dataset:
    """Labelled images from a folder or file of any known layout.

    Args:
        path: A table (CSV, TSV, JSON lines, Parquet), a COCO file, or a folder with a table, COCO or VOC
            data, images with `.txt` files beside them, or one folder per label.
        format: Which layout it is; `auto` looks.
        split: Gives only this split; `trainval` is `train` and `val` together.
        labels: The label set and its order, for example a trained model's. A label of the data outside of it
            is a problem; a label of it that the data do not annotate is unknown where the layout tells (one
            column per label, COCO, VOC), else absent.
        difficult: What objects marked difficult (VOC) make of their label: unknown, positive, or absent.
        image_root: Folder that holds the images, where that is not the folder of the annotations. Images
            outside of it are refused.
        check_files: Whether each image has to be there; no image is opened either way.
        on_problem: `raise` refuses data with anything wrong in them; `keep` leaves the rows concerned out and
            lists the problems in the result.

    Returns:
        The images in the order of the data.

    Raises:
        DataError: If nothing is there, the layout is not known, the split is not there, nothing is left to
            read, or, with `on_problem="raise"`, anything is wrong; the message says how to see all of it.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist: name the folder or file with the labelled images.")
    if format == "auto":
        path = _unwrapped(path)
    root = None if image_root is None else Path(image_root)
    if root is not None and not root.is_dir():
        raise DataError(f"The folder of images {root} does not exist.")
    wanted = None if split is None else split_name(split)
    layout = detect_format(path) if format == "auto" else format
    options = ReadOptions(
        labels=labels, image_root=root, check_files=check_files, difficult=difficult, only_split=wanted
    )
    dataset = read_as(layout, path, options)
    if on_problem == "raise" and dataset.problems:
        raise DataError(_summary(dataset, checkable=labels is None))
    if not dataset.samples and not dataset.problems:
        raise DataError(f"{path} has no labelled image in it (read as {layout}).")
    return dataset if wanted is None else _only(dataset, wanted)


def detect_format(path: Path) -> DataFormat:
    """The layout of the data at `path`, by the names of the files there.

    Raises:
        DataError: If it is none of the known ones; the message names the simplest.
    """
    try:
        found = find_reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if found is None:
        raise DataError(
            f"{path} has no known layout: add a table of images and labels (labels.csv), a .txt of labels "
            "beside each image, or one folder per label; docs/your-data.md shows all layouts, "
            "`q2l data check --help` names them."
        )
    return found


def _unwrapped(path: Path) -> Path:
    """The folder that an archive has wrapped in one of another name; `path` itself where it is none such."""
    try:
        parts = [part for part in path.iterdir() if not part.name.startswith(".")] if path.is_dir() else []
        if len(parts) != 1 or not parts[0].is_dir() or parts[0].is_symlink() or find_reader(path):
            return path
        return parts[0] if find_reader(parts[0]) else path
    except OSError:
        return path  # what cannot be read is said where the layout is looked for


def _summary(dataset: Dataset, *, checkable: bool) -> str:
    """The first problems; `q2l data check` finds all, but for labels that only a model does not know."""
    shown = "; ".join(str(problem).rstrip(".") for problem in dataset.problems[:_NUM_SHOWN])
    count = len(dataset.problems)
    command = f"`q2l data check {dataset.source}`"
    if count == 1:
        shown = _sentence(shown)
        return f"{shown} See {command}." if checkable else shown
    more = f"; and {count - _NUM_SHOWN} more" if count > _NUM_SHOWN else ""
    summary = _sentence(f"{dataset.source} has {count} problems: {shown}{more}")
    return f"{summary} {command} shows all." if checkable else summary


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _only(dataset: Dataset, split: str) -> Dataset:
    part = dataset.select(split)
    if part.samples:
        return replace(part)
    present = ", ".join(dataset.splits())
    if not present:
        raise DataError(
            f"{dataset.source} has no splits, so there is no {split!r}: make some with `q2l data split`."
        )
    raise DataError(f"{dataset.source} has no split {split!r}: it has {present}.")
