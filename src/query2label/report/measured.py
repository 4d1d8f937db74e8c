"""The models of a page, each measured on the same labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from query2label.errors import DataError
from query2label.evaluation.evaluate import LabelledScores
from query2label.evaluation.report import REPORT_NAME, Report
from query2label.inference.predictor import Predictor
from query2label.report.curves import read_records, read_warnings
from query2label.training.run_folder import RunFolder


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is, what to call it, and how it was learned."""

    bundle: str
    """What `Predictor.load` takes."""
    name: str
    records: Sequence[Mapping[str, Any]] = ()
    """The epochs of its run; none where they are not known."""
    warnings: Sequence[str] = ()
    """What its run said of its own results."""


@dataclass(frozen=True)
class Measured:
    """A model, what it says about the images, and how good that is."""

    name: str
    predictor: Predictor
    labelled: LabelledScores
    report: Report
    records: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()


def find_model(text: str) -> ModelPlace:
    """The model that a run folder, a bundle folder, an exported file or a name on the hub stands for.

    A run stands for its best bundle. A `metrics.jsonl` that holds no epochs, or a damaged
    `report.json`, is a `DataError`.
    """
    path = Path(text)
    is_run = RunFolder(path).best.is_dir()
    bundle = RunFolder(path).best if is_run else path
    run = path if is_run else bundle.parent
    records = read_records(RunFolder(run).metrics) if bundle.is_dir() else []
    named = run.resolve() if records or is_run else bundle
    name = (named.name if named.is_dir() else named.stem) if path.exists() else text
    warnings = read_warnings(RunFolder(run).evaluation / REPORT_NAME) if records else []
    return ModelPlace(str(bundle) if path.exists() else text, name or text, records, warnings)


def require_same_images(models: Sequence[Measured]) -> None:
    """Makes sure that row and column mean the same image and label for all models.

    Raises:
        DataError: If they know other labels, or could not read the same images.
    """
    first, *others = models
    for other in others:
        if other.labelled.bundle.labels != first.labelled.bundle.labels:
            raise DataError(
                f"{first.name} and {other.name} know different labels, or in another order: only models of "
                "the same labels can be compared."
            )
        if not np.array_equal(other.labelled.indices, first.labelled.indices):
            raise DataError(
                f"{first.name} and {other.name} were measured on different images, since some could be read "
                "for one of the two only: make the report again."
            )
