"""`q2l evaluate`: how good a model is on labelled images."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from query2label.cli.options import (
    BatchSizeOption,
    DataFormatOption,
    DeviceOption,
    ImagesOption,
    ModelOption,
    RuntimeOption,
    ThreadsOption,
    WorkersOption,
)
from query2label.errors import ConfigError
from query2label.formats import Difficult

if TYPE_CHECKING:
    from query2label.bundle import Bundle
    from query2label.evaluation.report import Report

_NUM_LABELS_SHOWN = 100
_MIN_COLUMNS = 80  # a narrower table would cut its numbers


class Format(StrEnum):
    """Forms of the printed report."""

    TEXT = "text"
    JSON = "json"
    PAPER = "paper"
    PAPER_MARKDOWN = "paper-markdown"
    PAPER_LATEX = "paper-latex"


def evaluate_command(
    model: ModelOption,
    data: Annotated[Path, typer.Option(help="Folder or file with labelled images.")],
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
            help="How it is measured. Which average precision is the headline, on any images: plain "
            "(scikit-learn's; the default), voc-allpoint, voc-11pt. Or on the images of a known data set and "
            "no others: coco14-all, coco14-labelled, coco17, voc07-11pt, voc07-allpoint, voc12, nuswide, "
            "vg500.",
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
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="text: all results (the default); json: the whole report; paper, paper-markdown, "
            "paper-latex: the tables of papers (mAP, then CP CR CF1 OP OR OF1 at 0.5 and of the top 3; AP of "
            "each label where there are few).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples for the confidence interval of mAP; 0: none.")
    ] = 1000,
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 2,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Compare a model's scores with the labels of images: mAP, F1, per-label results, calibration.

    Numbers are in percent on the terminal, and in [0, 1] in files and JSON.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: give a folder for report.json and labels.csv.")

    shown = _format(form, as_json=as_json)

    from query2label.cli.image_progress import image_progress
    from query2label.evaluation.evaluate import evaluate
    from query2label.inference.predictor import Predictor

    predictor = Predictor.load(model, runtime=runtime, device=device, threads=threads)
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
    if shown == Format.TEXT:
        _print_text(report)
        if out is not None:
            typer.echo(f"Written: {out}")
    elif shown == Format.JSON:
        typer.echo(report.to_json())
    else:
        _print_paper_table(report, predictor.bundle, shown)


def _format(form: Format | None, *, as_json: bool) -> Format:
    if as_json and form not in {None, Format.JSON}:
        raise ConfigError(f"--json and --format {form} contradict each other: leave one of the two out.")
    return Format.JSON if as_json else form or Format.TEXT


def _print_text(report: Report) -> None:
    from rich.console import Console

    from query2label.evaluation.text import print_report

    console = Console()
    console.width = max(console.width, _MIN_COLUMNS)
    print_report(report, console, max_labels=_NUM_LABELS_SHOWN)


def _print_paper_table(report: Report, bundle: Bundle, form: Format) -> None:
    from query2label.evaluation.paper_table import Method, Style, paper_table

    styles: dict[Format, Style] = {
        Format.PAPER: "text",
        Format.PAPER_MARKDOWN: "markdown",
        Format.PAPER_LATEX: "latex",
    }
    method = Method(bundle.model.head, bundle.model.backbone, bundle.preprocess.image_size)
    typer.echo(paper_table(report, method, style=styles[form]))
