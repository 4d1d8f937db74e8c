"""Scores and targets in a page: two bytes and two bits each, exact at every threshold the page can choose.

The page moves thresholds in steps of 1 / `STEPS`. A score is kept as the highest step that it reaches, so
`score >= threshold` is answered as evaluation does for every multiple of 1 / `STEPS`. A model's own
threshold lies between two steps: it takes the place of the upper one, and the scores between them that reach
it are kept as that step, so that the numbers at the model's own thresholds are exactly evaluation's, too.
"""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int32, UInt16

from query2label.metrics.arrays import Scores, Targets

STEPS: Final = 1 << 15
"""A power of two: a float32 score times it is exact. 1.0 is the step of this number."""


def threshold_steps(thresholds: Float[np.ndarray, " K"]) -> Int32[np.ndarray, " K"]:
    """The step that stands for each threshold in [0, 1]: the lowest that is not below it."""
    return np.asarray(np.ceil(np.asarray(thresholds, dtype=np.float32) * np.float32(STEPS)), dtype=np.int32)


def score_steps(scores: Scores, thresholds: Float[np.ndarray, " K"]) -> UInt16[np.ndarray, "n K"]:
    """The highest step that each score reaches, where the steps of `thresholds` stand for these.

    Args:
        scores: float32 in [0, 1].
        thresholds: The model's own, one per label.
    """
    own = np.asarray(thresholds, dtype=np.float32)
    reached = np.floor(np.asarray(scores, dtype=np.float32) * np.float32(STEPS)).astype(np.int32)
    at_own = scores >= own
    kept = np.where(at_own, np.maximum(reached, threshold_steps(thresholds)), reached)
    return np.asarray(kept, dtype=np.uint16)


def encoded_scores(scores: Scores, thresholds: Float[np.ndarray, " K"]) -> str:
    """Base64 of the steps, label by label, little-endian."""
    return _base64(score_steps(scores, thresholds).T.astype("<u2"))


def encoded_targets(targets: Targets) -> dict[str, str]:
    """Base64 of one bit per target, label by label: which are positive, and which are known."""
    return {"positive": _bits(targets == 1), "known": _bits(targets >= 0)}


def encoded_bytes(values: Float[np.ndarray, "h w"]) -> str:
    """Base64 of values in [0, 1] as bytes."""
    return _base64(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))


def _bits(table: Bool[np.ndarray, "n K"]) -> str:
    return _base64(np.packbits(table.T, bitorder="little"))


def _base64(array: npt.NDArray[np.integer]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
