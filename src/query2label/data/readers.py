"""The readers, in the order in which their layouts are looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from query2label.data import (
    coco,
    cvat,
    datumaro,
    folders,
    huggingface,
    labelstudio,
    nuswide,
    openimages,
    sidecar,
    tables,
    vg500,
    voc,
    webdataset,
    yolo,
)
from query2label.data.samples import Dataset
from query2label.errors import DataError
from query2label.formats import DataFormat, Difficult
from query2label.labels import LabelSet

Option = Literal["image_root", "check_files", "difficult", "only_split"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What `load_dataset` was asked for, as far as a reader may need it."""

    labels: LabelSet | None
    image_root: Path | None
    check_files: bool
    difficult: Difficult
    only_split: str | None
    """The one split that is wanted; a reader may leave the others unread."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One layout: how it is recognized, and what reads it."""

    finds: Callable[[Path], bool]
    """Whether the file or folder has this layout, by the names of files (and the start of one at most)."""
    read: Callable[..., Dataset]
    """`read(path, labels=..., ...)`, with those of the options that it takes."""
    takes: frozenset[Option] = frozenset()
    reads_files: bool = False
    """Whether the path may be a single file."""


READERS: Final[dict[DataFormat, Reader]] = {
    "voc": Reader(
        voc.looks_like,
        voc.read,
        frozenset({"image_root", "check_files", "difficult", "only_split"}),
    ),
    "nuswide": Reader(
        nuswide.looks_like,
        nuswide.read,
        frozenset({"image_root", "check_files"}),
    ),
    "vg500": Reader(
        vg500.looks_like,
        vg500.read,
        frozenset({"image_root", "check_files"}),
    ),
    "openimages": Reader(
        openimages.looks_like,
        openimages.read,
        frozenset({"image_root", "check_files"}),
    ),
    "cvat": Reader(
        cvat.looks_like,
        cvat.read,
        frozenset({"image_root", "check_files"}),
        reads_files=True,
    ),
    "labelstudio": Reader(
        labelstudio.looks_like,
        labelstudio.read,
        frozenset({"image_root", "check_files"}),
        reads_files=True,
    ),
    "datumaro": Reader(
        datumaro.looks_like,
        datumaro.read,
        frozenset({"image_root", "check_files"}),
        reads_files=True,
    ),
    "yolo": Reader(
        yolo.looks_like,
        yolo.read,
        frozenset({"image_root", "check_files", "only_split"}),
        reads_files=True,
    ),
    "huggingface": Reader(
        huggingface.looks_like,
        huggingface.read,
        reads_files=True,
    ),
    "webdataset": Reader(webdataset.looks_like, webdataset.read, reads_files=True),
    "coco": Reader(
        coco.looks_like,
        coco.read,
        frozenset({"image_root", "check_files", "only_split"}),
        reads_files=True,
    ),
    "table": Reader(
        tables.looks_like,
        tables.read,
        frozenset({"image_root", "check_files"}),
        reads_files=True,
    ),
    "sidecar": Reader(sidecar.looks_like, sidecar.read),
    "folders": Reader(folders.looks_like, folders.read),
}
"""By name; the first whose `finds` says yes is taken, so the more particular ones come first."""


def find_reader(path: Path) -> DataFormat | None:
    """The layout of the data at `path`; None where it is none of the known ones."""
    is_file = path.is_file()
    return next(
        (
            name
            for name, reader in READERS.items()
            if (reader.reads_files or not is_file) and reader.finds(path)
        ),
        None,
    )


def read_as(layout: DataFormat, path: Path, options: ReadOptions) -> Dataset:
    """The data at `path`, read as one layout; what is wrong with them is the reader's word.

    Raises:
        DataError: If the layout is a folder and the path a file, or images cannot lie elsewhere in it.
    """
    reader = READERS[layout]
    if not reader.reads_files and not path.is_dir():
        raise DataError(f"{path} is a file, but the format {layout} is a folder of files.")
    if options.image_root is not None and "image_root" not in reader.takes:
        raise DataError(f"The format {layout} has its labels beside the images: leave image_root out.")
    taken: dict[str, Any] = {name: getattr(options, name) for name in reader.takes}
    return reader.read(path, labels=options.labels, **taken)
