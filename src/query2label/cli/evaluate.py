"""`q2l evaluate`: how good a model is on labelled images."""

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
    ModelOption,
    WorkersOption,
)
from query2label.errors import ConfigError
from query2label.formats import Difficult

_NUM_LABELS_SHOWN = 100
_MIN_COLUMNS = 80  # a narrower table would cut its numbers


def evaluate_command(
    model: ModelOption,
    data: Annotated[Path, typer.Option(help="Folder or file with labelled images.")],
    split: Annotated[
        str | None,
        typer.Option(help="Only this split; unset: test, else val, else all images.", show_default=False),
    ] = None,
    data_format: DataFormatOption = "auto",
    images: ImagesOption = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which average precision is the headline: plain (scikit-learn's; the default), voc-allpoint "
            "or voc-11pt. All three are in the report.",
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
    top_k: Annotated[int, typer.Option(min=1, help="Labels per image for the top-k rules.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.json and labels.csv into this folder.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples for the confidence interval of mAP; 0: none.")
    ] = 1000,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 2,
    device: DeviceOption = "auto",
) -> None:
    """Compare a model's scores with the labels of images: mAP, F1, per-label results, calibration.

    Numbers are in percent on the terminal, and in [0, 1] in files and JSON.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: give a folder for report.json and labels.csv.")

    from rich.console import Console

    from query2label.cli.image_progress import image_progress
    from query2label.evaluation.evaluate import evaluate
    from query2label.evaluation.text import print_report
    from query2label.inference.predictor import Predictor

    predictor = Predictor.load(model, device=device)
    with image_progress("Evaluating", shown=sys.stderr.isatty()) as progress:
        report = evaluate(
            predictor,
            data,
            split=split,
            format=data_format,
            image_root=images,
            difficult=difficult,
            protocol=protocol,
            top_k=top_k,
            num_resamples=resamples,
            batch_size=batch_size,
            num_workers=workers,
            progress=progress,
        )
    if out is not None:
        report.save(out)
    if as_json:
        typer.echo(report.to_json())
        return
    console = Console()
    console.width = max(console.width, _MIN_COLUMNS)
    print_report(report, console, max_labels=_NUM_LABELS_SHOWN)
    if out is not None:
        typer.echo(f"Written: {out}")
