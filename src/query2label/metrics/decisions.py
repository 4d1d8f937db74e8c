"""Metrics of decisions: precision, recall and F1 per label, over labels, overall, and per image."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from query2label.metrics.arrays import Scores, Targets, require_same_shape, row_blocks
from query2label.metrics.ranking import LabelValues


@dataclass(frozen=True)
class DecisionCounts:
    """How many decisions were made and right, over known targets only."""

    label_hits: Int[np.ndarray, " K"]
    """Predicted and positive, per label."""
    label_predicted: Int[np.ndarray, " K"]
    label_positives: Int[np.ndarray, " K"]
    image_hits: Int[np.ndarray, " n"]
    """Predicted and positive, per image."""
    image_predicted: Int[np.ndarray, " n"]
    image_positives: Int[np.ndarray, " n"]

    def precision(self) -> LabelValues:
        """Precision per label; undefined where it was never predicted."""
        return _ratio(self.label_hits, self.label_predicted)

    def recall(self) -> LabelValues:
        """Recall per label; undefined where it has no positive."""
        return _ratio(self.label_hits, self.label_positives)

    def f1(self) -> LabelValues:
        """F1 per label, 0 where it was never predicted; undefined where it has no positive."""
        f1 = _ratio(2 * self.label_hits, self.label_predicted + self.label_positives)
        return LabelValues(f1.values, self.label_positives > 0)


@dataclass(frozen=True)
class DecisionMetrics:
    """Summary of decisions in [0, 1]; all None where no positive is known.

    Means over labels leave out labels without a positive; a label that was never predicted has precision 0.
    The overall (micro) numbers count every known decision. Means over images give an image without labels
    and predictions 0, as scikit-learn does by default.
    """

    cp: float | None
    """Mean precision over labels (macro precision)."""
    cr: float | None
    """Mean recall over labels (macro recall)."""
    cf1: float | None
    """2 CP CR / (CP + CR): what papers call CF1, not the mean of the labels' F1."""
    op: float | None
    """Overall (micro) precision."""
    or_: float | None
    """Overall (micro) recall."""
    of1: float | None
    """Overall (micro) F1."""
    macro_f1: float | None
    """Mean of the labels' F1."""
    sample_precision: float | None
    """Mean precision over images."""
    sample_recall: float | None
    """Mean recall over images."""
    sample_f1: float | None
    """Mean F1 over images."""

    def to_dict(self) -> dict[str, float | None]:
        """The numbers under their usual names: CP, CR, CF1, OP, OR, OF1, macro_f1, sample_f1, ..."""
        return {
            key.strip("_").upper() if len(key) <= 3 else key: value for key, value in asdict(self).items()
        }


def count_decisions(
    scores: Scores,
    targets: Targets,
    *,
    thresholds: float | Float[np.ndarray, " K"] | None = None,
    top_k: int | None = None,
) -> DecisionCounts:
    """Counts what is predicted, right and positive, per label and per image.

    A label is predicted where its score reaches its threshold and is among the image's `top_k` highest; at
    least one of the two must be given. Published top-3 results use both, with a threshold of 0.5.

    Args:
        scores: Higher for surer.
        targets: 1, 0, or below 0 where unknown: a decision that takes a place in `top_k` but does not count.
        thresholds: One, or one per label; compared in the precision of the scores.
        top_k: Exactly so many labels per image, the first ones in label order where scores tie.

    Returns:
        The counts.

    Raises:
        ValueError: If the shapes differ, there is no rule, `top_k` is not positive, or a score is NaN.
    """
    require_same_shape(scores, targets)
    if thresholds is None and top_k is None:
        raise ValueError("Decisions need thresholds or top_k, or both.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}: it must be 1 or more.")
    limits = None if thresholds is None else np.asarray(thresholds, dtype=scores.dtype)
    num_images, num_labels = scores.shape
    by_label = np.zeros((3, num_labels), dtype=np.int64)
    by_image = np.zeros((3, num_images), dtype=np.int64)
    for rows in row_blocks(num_images, num_labels):
        block, target = scores[rows], targets[rows]
        if np.isnan(block).any():
            raise ValueError(
                f"Scores of images {rows.start}..{rows.stop - 1} contain NaN: nothing to decide."
            )
        positive, known = target == 1, target >= 0
        predicted = known if top_k is None else known & _among_highest(block, top_k)
        if limits is not None:
            predicted = predicted & (block >= limits)
        for row, cells in enumerate((predicted & positive, predicted, positive)):
            by_label[row] += cells.sum(axis=0, dtype=np.int32)
            by_image[row, rows] = cells.sum(axis=1, dtype=np.int32)
    return DecisionCounts(*by_label, *by_image)


def decision_metrics(counts: DecisionCounts) -> DecisionMetrics:
    """The summary of `counts`."""
    present = counts.label_positives > 0
    if not present.any():
        return DecisionMetrics(*[None] * 10)
    cp = float(counts.precision().values[present].mean())
    cr = float(counts.recall().values[present].mean())
    hits, predicted, positives = (
        int(c.sum()) for c in (counts.label_hits, counts.label_predicted, counts.label_positives)
    )
    return DecisionMetrics(
        cp=cp,
        cr=cr,
        cf1=2 * cp * cr / (cp + cr) if cp + cr else 0.0,
        op=hits / predicted if predicted else 0.0,
        or_=hits / positives,
        of1=2 * hits / (predicted + positives),
        macro_f1=counts.f1().mean(),
        sample_precision=float(_ratio(counts.image_hits, counts.image_predicted).values.mean()),
        sample_recall=float(_ratio(counts.image_hits, counts.image_positives).values.mean()),
        sample_f1=float(
            _ratio(2 * counts.image_hits, counts.image_predicted + counts.image_positives).values.mean()
        ),
    )


def _ratio(part: Int[np.ndarray, " m"], whole: Int[np.ndarray, " m"]) -> LabelValues:
    defined = whole > 0
    return LabelValues(np.where(defined, part / np.maximum(whole, 1), 0.0), defined)


def _among_highest(scores: Scores, count: int) -> Bool[np.ndarray, "n K"]:
    """True for exactly `count` labels per image; ties at the border go to the first labels."""
    num_labels = scores.shape[1]
    if count >= num_labels:
        return np.ones(scores.shape, dtype=bool)
    border = np.partition(scores, num_labels - count, axis=1)[:, num_labels - count, None]
    above, level = scores > border, scores == border
    wanted = count - above.sum(axis=1)
    for row in np.flatnonzero(level.sum(axis=1) > wanted):
        level[row, np.flatnonzero(level[row])[wanted[row] :]] = False
    return np.asarray(above | level)
