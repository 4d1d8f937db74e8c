"""Tables beside a page, for spreadsheets and scripts: mistakes, suspected label errors, confusion."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from query2label.bundle import predicted
from query2label.data.samples import Dataset
from query2label.report.confusion import SetConfusion
from query2label.report.label_errors import SuspectedError
from query2label.report.measured import Measured
from query2label.spreadsheet import inert_cell
from query2label.storage import atomic_file

MISTAKES_NAME: Final = "mistakes.csv"
ERRORS_NAME: Final = "label_errors.csv"
CONFUSION_NAME: Final = "confusion.csv"


def shown_path(dataset: Dataset, index: int) -> str:
    """The path of an image as a page and its tables have it: within the data set, never of this machine.

    What is no valid text is replaced by question marks.
    """
    path, folder = dataset.samples[index].path, dataset.source
    folder = folder if folder.is_dir() else folder.parent
    shown = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return shown.as_posix().encode("utf-8", "replace").decode("utf-8")


def write_mistakes(model: Measured, images: Sequence[str], path: Path) -> None:
    """One row per wrong decision at the model's thresholds, those farthest from their threshold first.

    Columns: image, label, mistake (missed or false), score, threshold.
    """
    labelled = model.labelled
    thresholds = np.asarray(labelled.bundle.thresholds)
    chosen = predicted(labelled.scores, thresholds)
    rows, columns = np.nonzero((labelled.targets >= 0) & (chosen != (labelled.targets == 1)))
    apart = np.abs(labelled.scores[rows, columns] - thresholds[columns])
    order = np.argsort(-apart, kind="stable")
    labels = labelled.bundle.labels
    _write(
        path,
        ("image", "label", "mistake", "score", "threshold"),
        (
            (
                images[row],
                labels[column],
                "false" if chosen[row, column] else "missed",
                f"{labelled.scores[row, column]:.6f}",
                f"{thresholds[column]:.6f}",
            )
            for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
        ),
    )


def write_label_errors(
    errors: Iterable[SuspectedError], images: Sequence[str], labels: Sequence[str], path: Path
) -> None:
    """One row per suspected error, the most suspicious first, with an empty column for the verdict.

    Columns: image, label, given (present or absent), score, self_confidence, verdict.
    """
    _write(
        path,
        ("image", "label", "given", "score", "self_confidence", "verdict"),
        (
            (
                images[error.row],
                labels[error.label],
                "present" if error.is_present else "absent",
                f"{error.score:.6f}",
                f"{error.self_confidence:.6f}",
                "",
            )
            for error in errors
        ),
    )


def write_confusion(confusion: SetConfusion, labels: Sequence[str], path: Path) -> None:
    """One row per pair that occurs, the most frequent first; an empty name stands for no label.

    Columns: missed, predicted, count (the expected number of such pairs).
    """
    _write(path, ("missed", "predicted", "count"), _confusion_rows(confusion, labels))


def _confusion_rows(confusion: SetConfusion, labels: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for missed, false, count in confusion.pairs(confusion.instead.size):
        yield labels[missed], labels[false], f"{count:.4f}"
    for label, count in zip(labels, confusion.left_out.tolist(), strict=True):
        if count > 0:
            yield label, "", f"{count:.4f}"
    for label, count in zip(labels, confusion.added.tolist(), strict=True):
        if count > 0:
            yield "", label, f"{count:.4f}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([inert_cell(cell) for cell in row] for row in rows)
