"""Per-label thresholds from validation scores, steadied where a label has few positives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int

from query2label.errors import ConfigError
from query2label.metrics import RankedLabel, count_decisions, ranked_labels
from query2label.metrics.arrays import Scores, Targets

SHRINKAGE: Final = 2.0
"""A label with so many positives trusts its own threshold and the shared one alike."""
FEW_POSITIVES: Final = 10
"""With fewer, one image moves a label's recall by more than 10 points, and its threshold with it."""
_EDGE: Final = 1e-12


@dataclass(frozen=True)
class ThresholdRule:
    """What a threshold is fitted for."""

    kind: Literal["f1", "precision", "recall"]
    wanted: float | None = None
    """Precision or recall to reach, in (0, 1]."""

    def __str__(self) -> str:
        return self.kind if self.wanted is None else f"{self.kind}={self.wanted:g}"


def parse_rule(text: str) -> ThresholdRule:
    """The rule that `f1`, `precision=0.9` or `recall=0.9` names.

    Raises:
        ConfigError: If it is none of these, or the wanted value is outside (0, 1].
    """
    kind, equals, value = text.partition("=")
    if text == "f1":
        return ThresholdRule("f1")
    if kind in {"precision", "recall"} and equals:
        try:
            wanted = float(value)
        except ValueError:
            wanted = float("nan")
        if 0 < wanted <= 1:
            return ThresholdRule("precision" if kind == "precision" else "recall", wanted)
    raise ConfigError(
        f"Unknown threshold rule {text!r}: write f1, precision=P or recall=R, with P and R in (0, 1]."
    )


def fit_thresholds(
    scores: Scores, targets: Targets, *, rule: str | ThresholdRule = "f1", shrinkage: float = SHRINKAGE
) -> Float[np.ndarray, " K"]:
    """One threshold per label, fitted on validation scores.

    Each label's own threshold lies midway between two of its scores: the highest with maximum F1; or the
    lowest that keeps the wanted precision (the one of highest precision where none does); or the highest that
    keeps the wanted recall. With few positives that is mostly noise, so it is pulled towards what labels
    share: with P positives and w = P / (P + shrinkage),

        logit(threshold) = w logit(own) + (1 - w) logit(shared),

    where logit(shared) is the mean of the labels' logit(own), weighted by w. A label without positives gets
    the shared threshold, and 0.5 where no label has any. For a wanted precision (recall) a pull that would
    lower (raise) the threshold, or lose the wanted precision on these data, is not made.

    Args:
        scores: Calibrated scores in [0, 1].
        targets: 1, 0, or below 0 where unknown.
        rule: `f1`, `precision=P` or `recall=R`; a wrong one is a `ConfigError`.
        shrinkage: In positives; 0 leaves every label to itself.

    Returns:
        Thresholds in [0, 1]; a label is predicted where its score reaches its threshold.
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    own, positives = np.full(scores.shape[1], 0.5), np.zeros(scores.shape[1], dtype=np.int64)
    for label, ranked in enumerate(ranked_labels(scores, targets)):
        positives[label] = len(ranked.positives)
        if positives[label]:
            own[label] = _own_threshold(ranked, rule)
    pulled = _shrunk(own, positives, shrinkage)
    if rule.kind == "recall":
        return np.where(positives > 0, np.minimum(own, pulled), pulled)
    if rule.kind == "precision":
        precision = count_decisions(scores, targets, thresholds=pulled).precision()
        kept = (pulled >= own) & (precision.values >= rule.wanted) & precision.defined
        return np.where((positives == 0) | kept, pulled, own)
    return pulled


def _own_threshold(ranked: RankedLabel, rule: ThresholdRule) -> float:
    if rule.kind == "f1":
        return ranked.best_f1()[0]
    if rule.kind == "recall":
        return ranked.threshold_at(int(np.flatnonzero(ranked.recall >= rule.wanted)[-1]))
    good = np.flatnonzero(ranked.precision >= rule.wanted)
    return ranked.threshold_at(int(good[0]) if len(good) else int(ranked.precision.argmax()))


def _shrunk(
    own: Float[np.ndarray, " K"], positives: Int[np.ndarray, " K"], shrinkage: float
) -> Float[np.ndarray, " K"]:
    weight = positives / np.maximum(positives + shrinkage, 1)
    inner = np.clip(own, _EDGE, 1 - _EDGE)
    logit = np.log(inner) - np.log1p(-inner)
    shared = (weight * logit).sum() / weight.sum() if weight.any() else 0.0
    steadied = 1 / (1 + np.exp(-(weight * logit + (1 - weight) * shared)))
    return np.where(weight == 1, own, steadied)
