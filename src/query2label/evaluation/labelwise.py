"""The one pass over the labels of which a report's ranking numbers are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int, Int8

from query2label.evaluation.rows import CrowdRow, LabelRow, SizeRow
from query2label.evaluation.sizes import targets_of_size
from query2label.metrics import (
    CalibrationBins,
    DecisionCounts,
    LabelValues,
    RankedLabel,
    label_columns,
    rank_label,
)
from query2label.metrics.arrays import Scores, Targets

SIZES: Final = ("small", "medium", "large")
CROWDS: Final = ("0", "1", "2", "3", "4", "5+")


@dataclass(frozen=True)
class Ranking:
    """What the pass gives, per label."""

    ranked: list[_Measured]
    by_crowd: list[LabelValues]
    """AP among the images of each row of `CROWDS`."""
    by_size: list[LabelValues]
    """AP of the positives of each of `SIZES`; empty where sizes are not known."""
    size_positives: list[int]
    calibration_error: float | None
    uncalibrated_error: float | None


@dataclass(frozen=True, slots=True)
class _Measured:
    num_positives: int
    num_negatives: int
    ap: float | None
    ap_voc: float | None
    ap_voc11: float | None
    auc: float | None
    best_threshold: float | None
    best_f1: float | None


def rank_all(
    scores: Scores,
    targets: Targets,
    *,
    temperature: float,
    crowd: Int[np.ndarray, " n"],
    object_sizes: Int8[np.ndarray, "n K"] | None,
) -> Ranking:
    """Ranks every label once, over all images and over the parts of them that a report distinguishes.

    Args:
        scores: In [0, 1].
        targets: 1, 0, or below 0 where unknown.
        temperature: That the scores were made with; the calibration error without it is measured, too.
        crowd: For each image its row of `CROWDS`.
        object_sizes: 0, 1, 2 for a label that shows at most small, medium or large, else -1.
    """
    calibration = {power: CalibrationBins(temperature=power) for power in (1.0, temperature)}
    ranked: list[_Measured] = []
    by_crowd: list[list[float | None]] = [[] for _ in CROWDS]
    by_size: list[list[float | None]] = [[] for _ in SIZES]
    size_positives = np.zeros(len(SIZES), dtype=np.int64)
    for label, (score, target) in enumerate(label_columns(scores, targets)):
        whole = rank_label(score, target)
        ranked.append(_measure(whole))
        for bins in calibration.values():
            bins.add(whole)
        for row, values in enumerate(by_crowd):
            inside = crowd == row
            values.append(_ap(rank_label(score[inside], target[inside])))
        if object_sizes is not None:
            size = np.where(target == 1, object_sizes[:, label], -1)
            size_positives += [int((size == row).sum()) for row in range(len(SIZES))]
            for row, values in enumerate(by_size):
                values.append(_ap(rank_label(score, targets_of_size(target, size, row))))
    return Ranking(
        ranked=ranked,
        by_crowd=[LabelValues.from_list(values) for values in by_crowd],
        by_size=[LabelValues.from_list(values) for values in by_size] if object_sizes is not None else [],
        size_positives=size_positives.tolist(),
        calibration_error=calibration[1.0].error(),
        uncalibrated_error=calibration[temperature].error(),
    )


def crowd_of(counts: DecisionCounts) -> Int[np.ndarray, " n"]:
    """For each image the row of `CROWDS` it belongs to, by its number of known positive labels."""
    return np.asarray(np.minimum(counts.image_positives, len(CROWDS) - 1))


def label_rows(
    labels: Sequence[str],
    ranking: Ranking,
    counts: DecisionCounts,
    thresholds: Float[np.ndarray, " K"],
    *,
    num_images: int,
) -> tuple[LabelRow, ...]:
    """The per-label table."""
    decided = (counts.precision(), counts.recall(), counts.f1())
    precision, recall, f1 = (values.to_list() for values in decided)
    return tuple(
        LabelRow(
            label=label,
            num_positives=m.num_positives,
            num_negatives=m.num_negatives,
            num_unknown=num_images - m.num_positives - m.num_negatives,
            ap=m.ap,
            ap_voc=m.ap_voc,
            ap_voc11=m.ap_voc11,
            auc=m.auc,
            threshold=float(thresholds[k]),
            precision=precision[k],
            recall=recall[k],
            f1=f1[k],
            best_threshold=m.best_threshold,
            best_f1=m.best_f1,
        )
        for k, (label, m) in enumerate(zip(labels, ranking.ranked, strict=True))
    )


def size_rows(ranking: Ranking) -> tuple[SizeRow, ...]:
    """The table by object size; empty where sizes are not known."""
    return tuple(
        SizeRow(size=size, num_positives=positives, num_labels=int(aps.defined.sum()), map=aps.mean())
        for size, positives, aps in zip(SIZES, ranking.size_positives, ranking.by_size, strict=False)
    )


def crowd_rows(ranking: Ranking, counts: DecisionCounts) -> tuple[CrowdRow, ...]:
    """The table by number of labels in the image, without empty rows."""
    crowd = crowd_of(counts)
    rows = []
    for number, (name, aps) in enumerate(zip(CROWDS, ranking.by_crowd, strict=True)):
        inside = crowd == number
        if not inside.any():
            continue
        hits, predicted, positives = (
            int(part[inside].sum())
            for part in (counts.image_hits, counts.image_predicted, counts.image_positives)
        )
        rows.append(
            CrowdRow(
                num_labels=name,
                num_images=int(inside.sum()),
                map=aps.mean(),
                of1=2 * hits / (predicted + positives) if positives else None,
                predicted=predicted / int(inside.sum()),
            )
        )
    return tuple(rows)


def _measure(ranked: RankedLabel) -> _Measured:
    num_positives = len(ranked.positives)
    num_negatives = len(ranked.scores) - num_positives
    if not num_positives:
        return _Measured(0, num_negatives, *[None] * 6)
    return _Measured(
        num_positives,
        num_negatives,
        ranked.average_precision("plain"),
        ranked.average_precision("voc"),
        ranked.average_precision("voc11"),
        ranked.auc() if num_negatives else None,
        *ranked.best_f1(),
    )


def _ap(ranked: RankedLabel) -> float | None:
    return ranked.average_precision() if len(ranked.positives) else None
