"""Options that several commands have: the model, the labelled images, and how to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from query2label.formats import DataFormatOrAuto, Difficult, RuntimeName

_FORMAT_HELP = "Layout of the data; auto looks at the path."

FormatOption = Annotated[DataFormatOrAuto, typer.Option("--format", help=_FORMAT_HELP)]
"""Where the data are all that a command is about."""
DataFormatOption = Annotated[DataFormatOrAuto, typer.Option("--data-format", help=_FORMAT_HELP)]
"""Where `--format` could be that of something else."""
DifficultOption = Annotated[
    Difficult, typer.Option(help="What objects marked difficult (PASCAL VOC) say about their label.")
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
    str,
    typer.Option(
        help="Bundle: a folder such as runs/birds/best, or owner/name on the hub; or a file of `q2l export`."
    ),
]
ModelOrBuiltinOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Bundle: a folder such as runs/birds/best, or owner/name on the hub; or a file of `q2l export`. "
        "Unset: the model in the box, for 15 everyday labels.",
        show_default=False,
    ),
]
"""Where a model to try things with is better than an error; what measures or changes one wants its name."""
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        help="What computes: torch for bundles; onnx, openvino for exported files; auto: the fastest."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of the processor; unset: as many as this process may use.", show_default=False
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images that are computed at once.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that decode images.")]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="T|LABEL=T",
        help="Use this threshold instead of the bundle's, for all labels or for one; may be repeated.",
        show_default=False,
    ),
]
