"""Curves of a page: precision against recall, scores of positives and negatives, calibration, learning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from query2label.errors import DataError
from query2label.metrics import CalibrationBins, RankedLabel, ranked_labels
from query2label.metrics.arrays import Scores, Targets

NUM_POINTS: Final = 40
NUM_BARS: Final = 20
_DIGITS: Final = 4


def label_curves(scores: Scores, targets: Targets) -> dict[str, Any]:
    """By label: points (recall, precision) and the numbers of scores in 20 bars; of all labels: calibration.

    Args:
        scores: In [0, 1].
        targets: 1, 0, or below 0 where unknown.
    """
    calibration = CalibrationBins()
    precision_recall, bars = [], []
    for ranked in ranked_labels(scores, targets):
        calibration.add(ranked)
        precision_recall.append(_points(ranked))
        bars.append(_bars(ranked))
    filled = calibration.counts > 0
    counts = np.maximum(calibration.counts, 1)
    return {
        "precision_recall": precision_recall,
        "bars": bars,
        "calibration": {
            "counts": calibration.counts.tolist(),
            "scores": _rounded(np.where(filled, calibration.score_sums / counts, np.nan)),
            "positives": _rounded(np.where(filled, calibration.positives / counts, np.nan)),
        },
    }


def read_records(path: Path) -> list[Mapping[str, Any]]:
    """The epochs in a run's `metrics.jsonl`; none where the file is not there.

    Raises:
        DataError: If it is there and holds something else.
    """
    if not path.is_file():
        return []
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        records = [None]
    if not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is no list of epochs, one JSON object per line: remove or restore it.")
    return records


def read_warnings(path: Path) -> list[str]:
    """What a run's `report.json` says of the run's own results; nothing where the file is not there.

    Raises:
        DataError: If it is there and is no report.
    """
    if not path.is_file():
        return []
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return [str(warning) for warning in report.get("warnings", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        raise DataError(f"{path} is no report: remove it, or finish the run once more.") from None


def _points(ranked: RankedLabel) -> list[list[float]]:
    """(recall, precision) where each positive enters, from the surest on, thinned evenly."""
    if not len(ranked.positives):
        return []
    recall, precision = ranked.recall[::-1], ranked.precision[::-1]
    last = len(recall) - 1
    kept = np.unique(np.linspace(0, last, min(NUM_POINTS, last + 1)).round().astype(int))
    return [[round(float(recall[i]), _DIGITS), round(float(precision[i]), _DIGITS)] for i in kept]


def _bars(ranked: RankedLabel) -> list[list[int]]:
    """Numbers of negatives and of positives in bars of equal width over [0, 1]."""
    edges = np.linspace(0, 1, NUM_BARS + 1)
    every, positive = (np.histogram(part, edges)[0] for part in (ranked.scores, ranked.positives))
    return [(every - positive).tolist(), positive.tolist()]


def _rounded(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), _DIGITS) for value in values]
