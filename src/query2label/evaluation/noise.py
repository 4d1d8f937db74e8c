"""How far a difference of two mAPs could be off because of the images drawn, fast enough for every epoch.

The bootstrap (`bootstrap.paired_differences`) draws images anew hundreds of times and needs the scores of
both models. Here each image's influence on the mAP is a closed form: one number per image is kept of a model,
and the variance of a difference is the sum of the squared differences of influences.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Int

from query2label.metrics import label_columns, rank_label
from query2label.metrics.arrays import Scores, Targets

_Z_95: Final = 1.959964
"""Standard deviations on each side of the middle 95 % of a normal distribution."""


def mean_ap_influence(scores: Scores, targets: Targets) -> Float[np.ndarray, " n"]:
    """How much the mean (plain) average precision moves per image that is counted once more.

    It is the derivative of the mAP by the weight of each image, where all have weight 1; the sum is 0.
    Labels without a known positive are in no mean; an image moves nothing of a label that is unknown in it.

    Args:
        scores: Higher for surer; logits are as good.
        targets: 1, 0, or below 0 where unknown.

    Source:
        The infinitesimal jackknife: Jaeckel (1972), Efron (1982).
    """
    total, num_labels = np.zeros(len(scores)), 0
    for column, judged in label_columns(scores, targets):
        if (judged == 1).any():
            total += _ap_influence(column, judged)
            num_labels += 1
    return total / max(num_labels, 1)


def difference_interval(
    difference: float, first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> tuple[float, float]:
    """The 95 % interval of a difference of two mAPs on the same images, by a normal distribution.

    It takes no account of which labels other images would show, so with very few positives it is too narrow.

    Args:
        difference: The second mAP less the first.
        first: Influences on the first mAP, by image.
        second: Influences on the second.
    """
    half = _Z_95 * float(np.sqrt(np.square(second - first).sum()))
    return difference - half, difference + half


def _ap_influence(scores: Float[np.ndarray, " n"], targets: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The derivative of one label's AP = sum over positives p of w(p) hits(p) / reached(p), over sum of w(p).

    An image above a positive adds to its `reached`, and a positive to its `hits` as well.
    """
    ranked = rank_label(scores, targets)
    precision, num_positives = ranked.precision, len(ranked.positives)
    below = np.searchsorted(ranked.positives, scores, "right")  # positives that each image stands above
    gains = np.concatenate([[0.0], np.cumsum(1 / ranked.reached)])[below]
    losses = np.concatenate([[0.0], np.cumsum(precision / ranked.reached)])[below]
    own = precision[np.maximum(below - 1, 0)] - precision.mean()
    moved = np.where(targets == 1, own + gains, 0.0) - losses
    return np.where(targets >= 0, moved / num_positives, 0.0)
