"""Labels that are perhaps wrong: those that a model which did not learn from them contradicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

from query2label.metrics import label_columns
from query2label.metrics.arrays import Scores, Targets, require_same_shape

_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class SuspectedError:
    """One label of one image that should be looked at again."""

    row: int
    """Of the table of scores."""
    label: int
    is_present: bool
    """What the data say."""
    score: float
    self_confidence: float
    """How sure the model is of what the data say, in [0, 1]; low is suspicious."""


def self_confidence(scores: Scores, targets: Targets) -> Float[np.ndarray, "n K"]:
    """How sure a model is of each given label: the score where it is present, 1 - score where it is absent.

    Args:
        scores: In [0, 1], of a model that has not learned from these images.
        targets: 1, 0, or below 0 where unknown.

    Returns:
        In [0, 1]; 1 where nothing is given.

    Source:
        Northcutt et al. (2021), arXiv:1911.00068; for several labels Thyagarajan et al. (2022),
        arXiv:2211.13895, whose scores per class these are.
    """
    require_same_shape(scores, targets)
    given = np.where(targets == 1, scores, 1 - scores)
    return np.asarray(np.where(targets < 0, 1, given), dtype=scores.dtype)


def suspected_errors(scores: Scores, targets: Targets) -> list[SuspectedError]:
    """The labels that a model contradicts with confidence, the most suspicious first.

    Each label is a question of its own, as in confident learning: the model is confident that it is present
    where its score reaches the mean score of the images that have it, and that it is absent where 1 - score
    reaches the mean of that over the images that do not. Suspected is what it is confident of against the
    data, and holds for likelier than not; a label that all images have, or none, is never suspected.

    Args:
        scores: Calibrated, in [0, 1], of a model that has not learned from these images.
        targets: 1, 0, or below 0 where unknown.

    Returns:
        One entry per suspected (image, label), by rising self-confidence, then by image and label.
    """
    found: list[SuspectedError] = []
    for label, (score, target) in enumerate(label_columns(scores, targets)):
        for row in np.flatnonzero(_contradicted(score, target)).tolist():
            is_present = bool(target[row] == 1)
            surety = score[row] if is_present else 1 - score[row]
            found.append(SuspectedError(row, label, is_present, float(score[row]), float(surety)))
    return sorted(found, key=lambda error: (error.self_confidence, error.row, error.label))


def _contradicted(scores: Float[np.ndarray, " n"], targets: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    present, absent = targets == 1, targets == 0
    if not present.any() or not absent.any():
        return np.zeros(len(scores), dtype=bool)
    score = scores.astype(np.float64)
    sure_present = score >= score[present].mean() - _TOLERANCE
    sure_absent = 1 - score >= (1 - score[absent]).mean() - _TOLERANCE
    return np.asarray((present & sure_absent & (score <= 0.5)) | (absent & sure_present & (score > 0.5)))
