"""`q2l predict`: the labels of images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from query2label.cli.builtin import tell_builtin
from query2label.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ModelOrBuiltinOption,
    RuntimeOption,
    ThreadsOption,
)
from query2label.cli.terminal import printable, printable_name
from query2label.errors import ConfigError

if TYPE_CHECKING:
    from rich.text import Text

    from query2label.inference.prediction import Prediction


class Format(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    VOC = "voc"


class Competition(StrEnum):
    """Competitions of the VOC server."""

    COMP1 = "comp1"
    COMP2 = "comp2"


def predict_command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|GLOB|@LIST...",
            help="Image files, folders (with their subfolders), patterns, or @list.txt: a text file with one "
            "path per line, relative to that file. With --split: data sets.",
            show_default=False,
        ),
    ],
    model: ModelOrBuiltinOption = None,
    format: Annotated[
        Format | None,
        typer.Option(
            help="table; jsonl (an object per line: image, labels, scores, error); csv or parquet (columns "
            "image, labels, error, and score:LABEL for each label); voc (a folder of files for the VOC "
            "server). Unset: as --out ends, else table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write to this file (voc: folder) instead of the terminal.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The images of this split of a data set, whose path is given in place of images.",
            show_default=False,
        ),
    ] = None,
    competition: Annotated[
        Competition | None,
        typer.Option(
            help="For --format voc: comp2 (the default) for a model that has seen other images than VOC's, "
            "such as ImageNet's; comp1 for one that has not.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The N best labels, whatever their thresholds; with --threshold at most N that reach it.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T|LABEL=T",
            help="Use this threshold instead of the bundle's, for all labels or for one; may be repeated.",
            show_default=False,
        ),
    ] = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchSizeOption = 16,
) -> None:
    """Print the labels of images, best first, with their scores.

    An image that cannot be read gives a row with the error (--format voc: it ends the command, since the
    server wants every image). The exit code is 0 if any image could be read, 1 if none could, 2 if nothing
    was started.
    """
    from query2label.inference.choice import parse_thresholds
    from query2label.inference.samples import predict_samples, samples_of

    form = _form(format, out)
    limits = parse_thresholds(threshold or [])
    if form == Format.VOC and (top_k is not None or limits is not None):
        raise ConfigError("The format voc has the scores of all labels: leave --top-k and --threshold out.")
    if form != Format.VOC and competition is not None:
        raise ConfigError(f"--competition {competition} is for --format voc.")
    samples = samples_of(images, split=split)

    from query2label.inference.outputs import save_predictions, stream_writer
    from query2label.inference.predictor import Predictor

    predictor = Predictor.load(model, runtime=runtime, device=device, threads=threads)
    if model is None:
        tell_builtin(predictor.labels)
    predictions = _Counted(
        predict_samples(predictor, samples, top_k=top_k, threshold=limits, batch_size=batch_size),
        total=len(samples),
        show_progress=sys.stderr.isatty()
        and (form == Format.TABLE or not sys.stdout.isatty() or out is not None),
    )
    if form == Format.VOC and out is not None:
        _write_voc(predictions, out, predictor.labels, competition, split or "test")
    elif form == Format.TABLE:
        _print_table(predictions)
    elif out is not None:
        save_predictions(predictions, out, predictor.labels, form=form)
    else:
        stream_writer(predictor.labels, form=form)(predictions, sys.stdout)
    if predictions.num_broken:
        typer.echo(f"{predictions.num_broken} of {len(samples)} images could not be read.", err=True)
    if predictions.num_broken == len(samples):
        raise typer.Exit(1)


def _form(form: Format | None, out: Path | None) -> Format:
    suffixes = {f".{known}": known for known in Format if known not in {Format.TABLE, Format.VOC}}
    if out is None:
        if form in {Format.PARQUET, Format.VOC}:
            kind = "file" if form == Format.PARQUET else "folder"
            raise ConfigError(f"The format {form} needs a {kind} to write to: give --out.")
        return form or Format.TABLE
    if form == Format.VOC:
        return form
    chosen = form or suffixes.get(out.suffix.lower())
    if chosen is None or chosen == Format.TABLE:
        raise ConfigError(
            f"What to write to {out}? Give --format jsonl, csv or parquet; a table is for reading."
        )
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder: give the name of a file.")
    return chosen


class _Counted:
    """Passes predictions on, counts the broken images, and shows how far it is."""

    def __init__(self, predictions: Iterable[Prediction], *, total: int, show_progress: bool) -> None:
        self.num_broken = 0
        self._predictions = predictions
        self._total = total
        self._show_progress = show_progress

    def __iter__(self) -> Iterator[Prediction]:
        from rich.console import Console
        from rich.progress import track

        for prediction in track(
            self._predictions,
            "Predicting",
            total=self._total,
            console=Console(stderr=True),
            transient=True,
            disable=not self._show_progress,
        ):
            self.num_broken += prediction.error is not None
            yield prediction


def _write_voc(
    predictions: Iterable[Prediction],
    out: Path,
    labels: tuple[str, ...],
    competition: Competition | None,
    split: str,
) -> None:
    from query2label.data.annotation_files import split_name
    from query2label.inference.voc_results import VocResults

    name: Literal["comp1", "comp2"] = "comp1" if competition == Competition.COMP1 else "comp2"
    results = VocResults(out, labels, competition=name, split=split_name(split))
    num_images = results.write(predictions)
    typer.echo(f"Written: {results.folder}, {len(labels)} files with {num_images} images each.")


def _print_table(predictions: Iterable[Prediction]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("image", "labels", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for prediction in predictions:
        table.add_row(Text(printable_name(prediction.source or "")), _described(prediction))
    Console().print(table)


def _described(prediction: Prediction) -> Text:
    from rich.text import Text

    if prediction.error is not None:
        return Text(f"error: {printable(prediction.error)}", style="red")
    if not prediction.labels:
        best = max(prediction.scores, key=lambda label: prediction.scores[label])
        return Text(f"no label (best: {printable_name(best)} {prediction.scores[best]:.2f})", style="dim")
    parts = [(f"{printable_name(label)} ", f"{prediction.scores[label]:.2f}") for label in prediction.labels]
    text = Text()
    for index, (label, score) in enumerate(parts):
        text.append(", " if index else "").append(label, style="bold").append(score)
    return text
