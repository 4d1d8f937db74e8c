"""Two models on the same images: how much better, how sure that is, and where they disagree."""

from __future__ import annotations

from typing import Any

import numpy as np

from query2label.bundle import predicted
from query2label.evaluation.bootstrap import Interval, paired_differences
from query2label.metrics.arrays import Scores, Targets
from query2label.report.measured import Measured


def compared(first: Measured, second: Measured, *, num_resamples: int, seed: int = 0) -> dict[str, Any]:
    """What the second model has more than the first, each number with its paired interval."""
    one, other = first.report, second.report
    kind = one.headline_ap
    intervals = paired_differences(
        first.labelled.scores,
        second.labelled.scores,
        first.labelled.targets,
        thresholds=(_thresholds(first), _thresholds(second)),
        kind=kind,
        num_resamples=num_resamples,
        seed=seed,
    )
    before, after = one.decisions["thresholds"], other.decisions["thresholds"]
    rows = zip(one.per_label, other.per_label, intervals.per_label, strict=True)
    return {
        "map": _difference(one.headline_map, other.headline_map, intervals.map),
        "cf1": _difference(before.cf1, after.cf1, intervals.cf1),
        "of1": _difference(before.of1, after.of1, intervals.of1),
        "labels": [_difference(a.ap_of(kind), b.ap_of(kind), interval) for a, b, interval in rows],
    }


def disagreements(first: Measured, second: Measured) -> list[tuple[int, int]]:
    """The (row, label) that one model has right and the other wrong, the most different scores first."""
    targets = first.labelled.targets
    right = [_right(model.labelled.scores, _thresholds(model), targets) for model in (first, second)]
    rows, labels = np.nonzero((right[0] != right[1]) & (targets >= 0))
    apart = np.abs(first.labelled.scores - second.labelled.scores)[rows, labels]
    order = np.argsort(-apart, kind="stable")
    return list(zip(rows[order].tolist(), labels[order].tolist(), strict=True))


def _right(scores: Scores, thresholds: np.ndarray, targets: Targets) -> np.ndarray:
    return np.asarray(predicted(scores, thresholds) == (targets == 1))


def _thresholds(model: Measured) -> np.ndarray:
    return np.asarray(model.labelled.bundle.thresholds)


def _difference(
    before: float | None, after: float | None, interval: Interval | None
) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    bounds = {} if interval is None else {"low": interval.low, "high": interval.high}
    return {"difference": after - before} | bounds
