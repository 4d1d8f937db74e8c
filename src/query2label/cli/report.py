"""`q2l report`: a page about models on labelled images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from query2label.cli.options import (
    BatchSizeOption,
    DataFormatOption,
    DeviceOption,
    ImagesOption,
    RuntimeOption,
    ThreadsOption,
    WorkersOption,
)
from query2label.cli.terminal import printable_name
from query2label.formats import Difficult


def report_command(
    model: Annotated[
        list[str],
        typer.Option(
            help="Run folder, bundle folder or owner/name on the hub; or a file of `q2l export`. May be "
            "repeated: the others are compared with the first.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder or file with labelled images.")],
    out: Annotated[Path, typer.Option(help="Folder for the page (index.html) and its tables.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="Only this split; unset: the protocol's, else test, else val, else all images.",
            show_default=False,
        ),
    ] = None,
    data_format: DataFormatOption = "auto",
    images: ImagesOption = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How it is measured, as for `q2l evaluate`: plain (the default), voc-allpoint, coco17 ...",
            show_default=False,
        ),
    ] = None,
    difficult: Annotated[
        Difficult | None,
        typer.Option(
            help="What objects marked difficult (PASCAL VOC) say about their label; unset: as the protocol "
            "has it (ignore).",
            show_default=False,
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the page; unset: models and data.", show_default=False)
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Small pictures of mistakes in the page.")] = True,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples for confidence intervals; 0: none.")
    ] = 1000,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 2,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Write a page about a model on labelled images, or about several side by side: one file, opens offline.

    Metrics with intervals, labels whose thresholds can be moved, mistakes with where the model looked,
    confusion of label sets, calibration, suspected label errors, learning curves. Tables stand beside it.
    """
    from functools import partial

    from query2label.cli.image_progress import image_progress
    from query2label.report.write import ReportOptions, write_report

    page = write_report(
        model,
        data,
        out,
        title=title,
        options=ReportOptions(
            split=split,
            format=data_format,
            image_root=images,
            difficult=difficult,
            protocol=protocol,
            num_resamples=resamples,
            batch_size=batch_size,
            num_workers=workers,
            runtime=runtime,
            device=device,
            threads=threads,
            with_pictures=pictures,
        ),
        stage=partial(image_progress, shown=sys.stderr.isatty()),
    )
    size = page.stat().st_size / 1e6
    typer.echo(printable_name(f"Written: {page} ({size:.1f} MB); open it in a browser."))
