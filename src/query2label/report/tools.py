"""Mistakes for other tools: a folder that FiftyOne opens, and tasks that Label Studio imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool

from query2label.bundle import predicted
from query2label.inference.fiftyone import Classification, write_images, write_labels
from query2label.inference.labelstudio import task, write_tasks
from query2label.report.label_errors import SuspectedError
from query2label.report.measured import Measured

FIFTYONE_NAME: Final = "fiftyone"
LABELSTUDIO_NAME: Final = "labelstudio"


def write_fiftyone(model: Measured, suspects: Sequence[SuspectedError], folder: Path) -> None:
    """Writes all images with four files of labels: given, predicted, mistakes and suspected errors.

    A mistake has the attributes `mistake` (missed or false) and `threshold`, a suspected error `given`
    (present or absent) and `self_confidence`.
    """
    labelled, labels = model.labelled, model.labelled.bundle.labels
    chosen = _chosen(model)
    wrong = (labelled.targets >= 0) & (chosen != (labelled.targets == 1))
    suspected: list[list[Classification]] = [[] for _ in labelled.indices]
    for error in suspects:
        attributes = {
            "given": "present" if error.is_present else "absent",
            "self_confidence": error.self_confidence,
        }
        suspected[error.row].append(Classification(labels[error.label], error.score, attributes))
    given = [[Classification(labels[k]) for k in np.flatnonzero(row == 1)] for row in labelled.targets]
    write_images(folder, [labelled.data.samples[index].path for index in labelled.indices.tolist()])
    write_labels(folder, labels, given, name="ground_truth.json")
    write_labels(folder, labels, _marked(model, chosen, chosen), name="predictions.json")
    write_labels(folder, labels, _marked(model, wrong, chosen), name="mistakes.json")
    write_labels(folder, labels, suspected, name="label_errors.json")


def write_labelstudio(
    model: Measured, suspects: Sequence[SuspectedError], images: Sequence[str], folder: Path
) -> None:
    """Writes a task for each image with a mistake or a suspected error: its labels, and those predicted.

    The most suspicious images come first, then those with the most mistakes. Label Studio has no word for an
    unknown label: it is as one that was not given.
    """
    labelled, labels = model.labelled, model.labelled.bundle.labels
    chosen = _chosen(model)
    num_wrong = ((labelled.targets >= 0) & (chosen != (labelled.targets == 1))).sum(axis=1)
    first = list(dict.fromkeys(error.row for error in suspects))
    rest = [row for row in np.argsort(-num_wrong, kind="stable").tolist() if num_wrong[row]]
    tasks = [
        task(
            images[row],
            predicted={labels[k]: float(labelled.scores[row, k]) for k in np.flatnonzero(chosen[row])},
            given=[labels[k] for k in np.flatnonzero(labelled.targets[row] == 1)],
            version=model.name,
        )
        for row in dict.fromkeys([*first, *rest])
    ]
    write_tasks(folder, labels, tasks)


def _marked(
    model: Measured, shown: Bool[np.ndarray, "n K"], chosen: Bool[np.ndarray, "n K"]
) -> list[list[Classification]]:
    """The labels shown of each image, the highest score first; wrong ones say how."""
    labelled, bundle = model.labelled, model.labelled.bundle
    rows = []
    for row, flags in enumerate(shown):
        found = []
        for k in sorted(np.flatnonzero(flags).tolist(), key=lambda k: -labelled.scores[row, k]):
            attributes: dict[str, str | float] = {"threshold": bundle.thresholds[k]}
            if labelled.targets[row, k] >= 0 and chosen[row, k] != (labelled.targets[row, k] == 1):
                attributes["mistake"] = "false" if chosen[row, k] else "missed"
            found.append(Classification(bundle.labels[k], float(labelled.scores[row, k]), attributes))
        rows.append(found)
    return rows


def _chosen(model: Measured) -> Bool[np.ndarray, "n K"]:
    return predicted(model.labelled.scores, np.asarray(model.labelled.bundle.thresholds))
