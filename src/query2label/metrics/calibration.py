"""How far scores are from being probabilities."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from query2label.metrics.arrays import Scores, Targets
from query2label.metrics.ranking import RankedLabel, ranked_labels

NUM_BINS: Final = 15


def calibration_error(scores: Scores, targets: Targets) -> float | None:
    """Expected calibration error of all known decisions taken together, in [0, 1].

    Scores are put in 15 bins of equal width over [0, 1]; the error is the mean over bins, weighted by their
    sizes, of |mean score - share of positives|. It is about the score of each (image, label) pair, not about
    the confidence of the top label, and the many easy negatives dominate it: compare it between models on
    the same data only.

    Args:
        scores: In [0, 1]; anything else, or NaN, is a `ValueError`.
        targets: 1, 0, or below 0 where unknown.

    Returns:
        The error, None where nothing is known.
    """
    bins = CalibrationBins()
    for ranked in ranked_labels(scores, targets):
        bins.add(ranked)
    return bins.error()


class CalibrationBins:
    """Sizes, sums of scores and numbers of positives of 15 bins of equal width, gathered label by label.

    Args:
        temperature: Measures sigmoid(temperature * logit(score)) instead of each score: what it was before
            its logit was divided by this temperature.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self.counts = np.zeros(NUM_BINS, dtype=np.int64)
        self.score_sums = np.zeros(NUM_BINS, dtype=np.float64)
        self.positives = np.zeros(NUM_BINS, dtype=np.int64)

    def add(self, ranked: RankedLabel) -> None:
        """Adds one label's known scores; a score on an inner edge belongs to the upper bin.

        Raises:
            ValueError: If a score is outside [0, 1].
        """
        scores, positives = ranked.scores, ranked.positives
        if not len(scores):
            return
        if scores[0] < 0 or scores[-1] > 1:
            raise ValueError("Calibration is about scores in [0, 1]: these hold other numbers.")
        if self.temperature != 1:
            scores, positives = _sharpened(scores, self.temperature), _sharpened(positives, self.temperature)
        edges = np.asarray(np.arange(1, NUM_BINS) / NUM_BINS, dtype=scores.dtype)
        starts = np.concatenate([[0], np.searchsorted(scores, edges, "left")])
        sizes = np.diff(starts, append=len(scores))
        filled = sizes > 0
        self.counts += sizes
        self.score_sums[filled] += np.add.reduceat(scores, starts[filled], dtype=np.float64)
        cuts = np.searchsorted(positives, edges, "left")
        self.positives += np.diff(cuts, prepend=0, append=len(positives))

    def error(self) -> float | None:
        """The expected calibration error so far; None where nothing was added."""
        total = int(self.counts.sum())
        return float(np.abs(self.score_sums - self.positives).sum() / total) if total else None


def _sharpened(scores: Float[np.ndarray, " m"], power: float) -> Float[np.ndarray, " m"]:
    raised, rest = scores**power, (1 - scores) ** power
    return np.asarray(raised / (raised + rest), dtype=scores.dtype)
