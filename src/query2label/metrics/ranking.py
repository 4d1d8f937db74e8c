"""Metrics of how well scores rank images per label: average precision and the area under the ROC curve.

Everything follows from two sorted lists per label, its known scores and those of its positives, so that ties
are exact: images with equal scores enter together, whatever their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from query2label.metrics.arrays import Scores, Targets, require_same_shape

AveragePrecisionKind = Literal["plain", "voc", "voc11"]
_CHUNK_BYTES: Final = 128 << 20


@dataclass(frozen=True)
class LabelValues:
    """One number per label, where the data define it."""

    values: Float[np.ndarray, " K"]
    """0 where undefined."""
    defined: Bool[np.ndarray, " K"]

    @classmethod
    def from_list(cls, values: Sequence[float | None]) -> LabelValues:
        """From one number per label, None where undefined."""
        return cls(
            np.array([0.0 if value is None else value for value in values], dtype=np.float64),
            np.array([value is not None for value in values], dtype=bool),
        )

    def mean(self) -> float | None:
        """Mean over the labels that have a value; None where none has."""
        return float(self.values[self.defined].mean()) if self.defined.any() else None

    def to_list(self) -> list[float | None]:
        """The values in label order, None where undefined."""
        return [float(v) if d else None for v, d in zip(self.values, self.defined, strict=True)]


@dataclass(frozen=True)
class RankedLabel:
    """One label's known scores in rising order, and where its positives stand among them."""

    scores: Float[np.ndarray, " n"]
    """Scores of all images whose target is known, rising."""
    positives: Float[np.ndarray, " p"]
    """Scores of the positives, rising."""
    hits: Int[np.ndarray, " p"]
    """For each positive: positives with its score or a higher one."""
    reached: Int[np.ndarray, " p"]
    """For each positive: known images with its score or a higher one."""

    @property
    def precision(self) -> Float[np.ndarray, " p"]:
        """Precision when each positive's own score is the threshold."""
        return np.asarray(self.hits / self.reached)

    @property
    def recall(self) -> Float[np.ndarray, " p"]:
        """Recall when each positive's own score is the threshold; falling."""
        return np.asarray(self.hits / max(len(self.positives), 1))

    @property
    def f1(self) -> Float[np.ndarray, " p"]:
        """F1 when each positive's own score is the threshold."""
        return np.asarray(2 * self.hits / (self.reached + len(self.positives)))

    def average_precision(self, kind: AveragePrecisionKind = "plain") -> float:
        """Average precision in [0, 1]; see `average_precision`. There must be a positive."""
        if kind == "plain":
            return float(self.precision.mean())
        envelope = np.maximum.accumulate(self.precision)  # from full recall towards none
        if kind == "voc":
            return float(envelope.mean())
        reaching = [int((self.hits * 10 >= tenth * len(self.positives)).sum()) for tenth in range(11)]
        return float(np.mean([envelope[count - 1] for count in reaching]))

    def auc(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties half; both must exist."""
        below = np.searchsorted(self.scores, self.positives, "left") - (len(self.positives) - self.hits)
        through = np.searchsorted(self.scores, self.positives, "right") - np.searchsorted(
            self.positives, self.positives, "right"
        )
        num_negatives = len(self.scores) - len(self.positives)
        return float((below + through).mean() / (2 * num_negatives))

    def threshold_at(self, positive: int) -> float:
        """A threshold that this positive just reaches: midway to the next lower known score, or to 0.

        It is a float32 number, so that a comparison in single and in double precision agree.
        """
        score = float(self.positives[positive])
        lower_count = len(self.scores) - int(self.reached[positive])
        lower = float(self.scores[lower_count - 1]) if lower_count else min(0.0, score)
        middle = float(np.float32((lower + score) / 2))
        return middle if lower < middle <= score else score

    def best_f1(self) -> tuple[float, float]:
        """(threshold, F1) of the highest threshold with the largest F1; there must be a positive."""
        f1 = self.f1
        best = len(f1) - 1 - int(f1[::-1].argmax())
        return self.threshold_at(best), float(f1[best])


def label_columns(
    scores: Scores, targets: Targets
) -> Iterator[tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Each label's contiguous (scores, targets), in label order, read in chunks of bounded memory."""
    require_same_shape(scores, targets)
    num_images, num_labels = scores.shape
    chunk = max(1, _CHUNK_BYTES // max(1, num_images * (scores.itemsize + targets.itemsize)))
    for start in range(0, num_labels, chunk):
        columns = np.ascontiguousarray(scores[:, start : start + chunk].T)
        judged = np.ascontiguousarray(targets[:, start : start + chunk].T)
        yield from zip(columns, judged, strict=True)


def rank_label(scores: Float[np.ndarray, " n"], targets: Int[np.ndarray, " n"]) -> RankedLabel:
    """The ranking of one label's images; its `positives` may be empty.

    Args:
        scores: Higher for surer.
        targets: 1, 0, or below 0 where unknown.

    Raises:
        ValueError: If a known score is NaN.
    """
    known = targets >= 0
    rising = np.sort(scores if known.all() else scores[known])
    if len(rising) and np.isnan(rising[-1]):  # NaN sorts last
        raise ValueError("A known score is NaN: such scores cannot be ranked.")
    positives = np.sort(scores[targets == 1])
    return RankedLabel(
        scores=rising,
        positives=positives,
        hits=len(positives) - np.searchsorted(positives, positives, "left"),
        reached=len(rising) - np.searchsorted(rising, positives, "left"),
    )


def ranked_labels(scores: Scores, targets: Targets) -> Iterator[RankedLabel]:
    """Each label's ranking, in label order; a known score that is NaN is a `ValueError`."""
    return (rank_label(*column) for column in label_columns(scores, targets))


def average_precision(
    scores: Scores, targets: Targets, *, kind: AveragePrecisionKind = "plain"
) -> LabelValues:
    """Average precision of each label, in [0, 1].

    `plain` is the mean precision at the positives (scikit-learn; ASL and ML-Decoder report it); `voc` takes
    at each recall the best precision at that recall or a higher one (PASCAL VOC since 2010; Query2Label
    reports it, a little higher); `voc11` averages that over the recalls 0, 0.1 .. 1 (PASCAL VOC 2007).

    Args:
        scores: Higher for surer.
        targets: 1, 0, or below 0 where unknown.
        kind: Which of the three.

    Returns:
        Values, undefined for labels without a known positive.
    """
    return _per_label(
        scores, targets, lambda ranked: ranked.average_precision(kind) if len(ranked.positives) else None
    )


def mean_average_precision(
    scores: Scores, targets: Targets, *, kind: AveragePrecisionKind = "plain"
) -> float | None:
    """Mean of `average_precision` over the labels with a known positive; None where there are none."""
    return average_precision(scores, targets, kind=kind).mean()


def roc_auc(scores: Scores, targets: Targets) -> LabelValues:
    """Area under the ROC curve of each label, in [0, 1]; a tie of a positive and a negative counts half.

    Args:
        scores: Higher for surer.
        targets: 1, 0, or below 0 where unknown.

    Returns:
        Values, undefined for labels without a known positive or without a known negative.
    """
    return _per_label(scores, targets, lambda r: r.auc() if 0 < len(r.positives) < len(r.scores) else None)


def _per_label(
    scores: Scores, targets: Targets, measure: Callable[[RankedLabel], float | None]
) -> LabelValues:
    return LabelValues.from_list([measure(ranked) for ranked in ranked_labels(scores, targets)])
