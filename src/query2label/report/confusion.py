"""Set-aware confusion: which label was predicted instead of which one that is missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from query2label.metrics.arrays import row_blocks


@dataclass(frozen=True)
class SetConfusion:
    """Expected numbers of pairs when missed and false labels of each image are paired off at random.

    An image that misses m labels and has f false ones holds min(m, f) pairs of one of each; all ways of
    pairing are equally likely, so a missed label a and a false label b stand in a pair 1 / max(m, f) times.
    What finds no partner was simply left out, or simply added. With exactly one of each the pair counts 1.
    Every miss and every false decision is counted once: rows sum to misses, columns to false decisions.
    """

    instead: Float[np.ndarray, "K K"]
    """Row a, column b: how often b was predicted where a was missed."""
    left_out: Float[np.ndarray, " K"]
    """How often a label was missed with nothing in its place."""
    added: Float[np.ndarray, " K"]
    """How often a label was predicted beside what there is, in no label's place."""

    def pairs(self, count: int) -> list[tuple[int, int, float]]:
        """The (missed, false, expected number) that occur, the most frequent first, at most `count`."""
        order = np.argsort(-self.instead, axis=None, kind="stable")[:count]
        rows, columns = np.unravel_index(order, self.instead.shape)
        found = zip(rows.tolist(), columns.tolist(), self.instead[rows, columns].tolist(), strict=True)
        return [pair for pair in found if pair[2] > 0]


def set_confusion(predicted: Bool[np.ndarray, "n K"], targets: Int[np.ndarray, "n K"]) -> SetConfusion:
    """The confusion of predicted label sets with the true ones.

    Args:
        predicted: Which labels are predicted.
        targets: 1, 0, or below 0 where unknown: neither missed nor false.

    Returns:
        The expected numbers; `instead` has K x K cells.
    """
    num_labels = predicted.shape[1]
    instead = np.zeros((num_labels, num_labels))
    left_out, added = np.zeros(num_labels), np.zeros(num_labels)
    for rows in row_blocks(*predicted.shape):
        missed = ((targets[rows] == 1) & ~predicted[rows]).astype(np.float64)
        false = ((targets[rows] == 0) & predicted[rows]).astype(np.float64)
        num_missed, num_false = missed.sum(axis=1), false.sum(axis=1)
        instead += (missed / np.maximum(np.maximum(num_missed, num_false), 1)[:, None]).T @ false
        left_out += np.maximum(1 - num_false / np.maximum(num_missed, 1), 0) @ missed
        added += np.maximum(1 - num_missed / np.maximum(num_false, 1), 0) @ false
    return SetConfusion(instead, left_out, added)
