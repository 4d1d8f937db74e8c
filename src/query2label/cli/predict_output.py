"""How predictions leave `q2l predict`: counted, as a table, as files for the VOC server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from query2label.cli.terminal import printable, printable_name

if TYPE_CHECKING:
    from rich.text import Text

    from query2label.data.samples import Sample
    from query2label.inference.parts import PartFolder, Shard
    from query2label.inference.prediction import Prediction
    from query2label.inference.tagging import Engine


class Competition(StrEnum):
    """Competitions of the VOC server."""

    COMP1 = "comp1"
    COMP2 = "comp2"


class Counted:
    """Passes predictions on, counts them and the broken images, and shows how far it is.

    It may be iterated several times, over parts of all images.

    Args:
        total: How many predictions there will be.
        show_progress: Whether there is a bar, on the terminal.
    """

    def __init__(self, total: int, *, show_progress: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.num_images = 0
        self.num_broken = 0
        self._progress = Progress(console=Console(stderr=True), transient=True, disable=not show_progress)
        self._task = self._progress.add_task("Predicting", total=total)

    def expect(self, total: int) -> None:
        """Says that there will be another number of predictions."""
        self._progress.update(self._task, total=total)

    def __call__(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """The predictions."""
        with self._progress:
            for prediction in predictions:
                self.num_images += 1
                self.num_broken += prediction.error is not None
                self._progress.advance(self._task)
                yield prediction


def write_rows(
    predictions: Iterable[Prediction],
    out: Path | None,
    labels: tuple[str, ...],
    *,
    form: str,
    keep_logits: bool,
) -> None:
    """Writes a row per image, to a file or, as they come, to stdout."""
    from query2label.inference.outputs import save_predictions, stream_writer

    if out is not None:
        save_predictions(predictions, out, labels, form=form, keep_logits=keep_logits)
    else:
        stream_writer(labels, form=form, keep_logits=keep_logits)(predictions, sys.stdout)


def write_parts(
    folder: PartFolder, samples: Iterable[Sample], engine: Engine, shard: Shard | None, counted: Counted
) -> None:
    """Writes the parts that are missing, and says what is there now."""
    from query2label.inference.tagging import tag_parts

    counted.expect(sum(folder.rows_of(number) for number in folder.missing(shard)))
    tag_parts(samples, folder, engine, shard=shard, watch=counted)
    missing, total = len(folder.missing()), folder.manifest.num_parts
    there = f"all {total} parts" if not missing else f"{total - missing} of {total} parts"
    typer.echo(f"Written: {folder.path} has {there} of {folder.manifest.num_images:,} images.")


def write_voc(
    predictions: Iterable[Prediction],
    out: Path,
    labels: tuple[str, ...],
    competition: Competition | None,
    split: str,
) -> None:
    """Writes the files of the VOC server, and says where they are."""
    from query2label.data.annotation_files import split_name
    from query2label.inference.voc_results import VocResults

    name: Literal["comp1", "comp2"] = "comp1" if competition == Competition.COMP1 else "comp2"
    results = VocResults(out, labels, competition=name, split=split_name(split))
    num_images = results.write(predictions)
    typer.echo(f"Written: {results.folder}, {len(labels)} files with {num_images} images each.")


def print_table(predictions: Iterable[Prediction]) -> None:
    """Prints a row per image, once all are predicted."""
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
