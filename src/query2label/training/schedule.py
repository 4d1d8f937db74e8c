"""Learning rate and momentum as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import Literal

START_DIVISOR = 25.0
"""`one_cycle` begins at 1/25 of the peak."""
END_DIVISOR = 1e4
"""`one_cycle` ends at its start divided by this."""
CYCLED_BETA1 = (0.95, 0.85)
"""beta1 at the lowest and at the highest rate, where it cycles."""


def rate_factor(
    step: int,
    *,
    num_steps: int,
    schedule: Literal["one_cycle", "cosine"],
    warmup_fraction: float,
) -> float:
    """The multiple of the peak rate at which the optimizer takes a step.

    `one_cycle` rises along a cosine from 1/25 to 1 and falls along a cosine to nearly 0; `cosine` rises in a
    straight line that would begin at 0 one step before the first, and falls along a cosine to 0 one step
    after the last.

    Args:
        step: Number of the step, from 0.
        num_steps: Steps of the whole run.
        schedule: Which curve.
        warmup_fraction: Share of the steps in which the rate rises, in [0, 1].

    Returns:
        A factor in (0, 1].

    Raises:
        ValueError: If there is no such step.

    Source:
        one_cycle is PyTorch's OneCycleLR with cosine annealing; Smith and Topin (2017), arXiv:1708.07120.
    """
    if not 0 <= step < num_steps:
        raise ValueError(f"step {step} is not in a run of {num_steps} steps")
    if schedule == "one_cycle":
        start = 1 / START_DIVISOR
        return _cycle((start, 1.0, start / END_DIVISOR), step, num_steps, warmup_fraction)
    warmup = warmup_fraction * num_steps
    if step + 1 <= warmup:
        return (step + 1) / warmup
    return _cosine(1.0, 0.0, max(step - warmup, 0.0) / (num_steps - warmup))


def cycled_beta1(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """AdamW's beta1 at a step where it cycles: it falls while the rate of `one_cycle` rises, and rises again.

    Args:
        step: Number of the step, from 0.
        num_steps: Steps of the whole run.
        warmup_fraction: Share of the steps in which the rate rises, in [0, 1].

    Source:
        PyTorch's OneCycleLR with `cycle_momentum`, which is on unless it is turned off.
    """
    low_rate, high_rate = CYCLED_BETA1
    return _cycle((low_rate, high_rate, low_rate), step, num_steps, warmup_fraction)


def _cycle(turns: tuple[float, float, float], step: int, num_steps: int, warmup_fraction: float) -> float:
    """From the first value along a cosine to the second, at the peak, and along another to the third."""
    start, middle, end = turns
    peak = max(warmup_fraction * num_steps - 1, 0.0)
    if step <= peak and peak > 0:
        return _cosine(start, middle, step / peak)
    fall = num_steps - 1 - peak
    return _cosine(middle, end, (step - peak) / fall if fall > 0 else 0.0)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
