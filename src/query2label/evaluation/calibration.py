"""One temperature that makes scores as close to probabilities as a single number can."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Int

from query2label.errors import DataError
from query2label.metrics.arrays import require_same_shape, row_blocks

LOWEST_TEMPERATURE: Final = 0.05
HIGHEST_TEMPERATURE: Final = 20.0
_STEPS: Final = 60


def fit_temperature(logits: Float[np.ndarray, "n K"], targets: Int[np.ndarray, "n K"]) -> float:
    """The temperature T that minimizes the binary cross-entropy of sigmoid(logits / T).

    The loss is convex in 1 / T, so Newton steps kept inside a shrinking bracket find the one minimum whatever
    the data; it lies in [0.05, 20], at the lower end where the logits separate all targets.

    Args:
        logits: Before the sigmoid.
        targets: 1, 0, or below 0 where unknown.

    Returns:
        The temperature; 1 where the data say nothing about it (nothing known, or all logits 0). A known logit
        that is not finite is a `DataError`.

    Source:
        Guo et al. (2017), arXiv:1706.04599, for softmax; here one temperature for all labels' sigmoids.
    """
    require_same_shape(logits, targets)
    low, high, scale = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE, 1.0
    for _ in range(_STEPS):
        slope, curvature = _derivatives(logits, targets, scale)
        if slope == 0:
            break
        low, high = (low, scale) if slope > 0 else (scale, high)
        step = scale - slope / curvature if curvature > 0 else np.inf
        moved = step if low < step < high else float(np.sqrt(low * high))
        if abs(moved - scale) <= 1e-9 * scale:
            break
        scale = moved
    return float(1 / scale)


def _derivatives(
    logits: Float[np.ndarray, "n K"], targets: Int[np.ndarray, "n K"], scale: float
) -> tuple[float, float]:
    """First and second derivative, by `scale`, of the summed cross-entropy of sigmoid(scale * logits).

    Raises:
        DataError: If a known logit is not finite.
    """
    slope = curvature = 0.0
    for rows in row_blocks(*logits.shape):
        known = targets[rows] >= 0
        z = logits[rows][known].astype(np.float64)
        if not np.isfinite(z).all():
            raise DataError("The temperature cannot be fitted: the model gives logits that are not finite.")
        p = np.exp(-np.logaddexp(0.0, -scale * z))
        slope += float(((p - (targets[rows][known] == 1)) * z).sum())
        curvature += float((p * (1 - p) * z * z).sum())
    return slope, curvature
