"""Options that several commands have: the model, the labelled images, and how to compute."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DataFormat(StrEnum):
    """Layouts of labelled images."""

    AUTO = "auto"
    TABLE = "table"
    COCO = "coco"
    VOC = "voc"
    SIDECAR = "sidecar"
    FOLDERS = "folders"


class DifficultObjects(StrEnum):
    """What objects marked difficult say about their label."""

    IGNORE = "ignore"
    POSITIVE = "positive"
    NEGATIVE = "negative"


_FORMAT_HELP = "Layout of the data; auto looks at the path."

FormatOption = Annotated[DataFormat, typer.Option("--format", help=_FORMAT_HELP)]
"""Where the data are all that a command is about."""
DataFormatOption = Annotated[DataFormat, typer.Option("--data-format", help=_FORMAT_HELP)]
"""Where `--format` could be that of something else."""
DifficultOption = Annotated[
    DifficultObjects, typer.Option(help="What objects marked difficult (PASCAL VOC) say about their label.")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="FOLDER",
        help="Folder of the images, where that is not beside the labels.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str, typer.Option(help="Bundle: a folder such as runs/birds/best, or owner/name on the hub.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images that are computed at once.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that decode images.")]
