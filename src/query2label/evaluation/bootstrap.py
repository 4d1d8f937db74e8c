"""How far the mean average precision could be off because other images might have been drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from query2label.metrics import AveragePrecisionKind
from query2label.metrics.arrays import Scores, Targets, require_same_shape

NUM_RESAMPLES: Final = 1000
_FEWEST_RESAMPLES: Final = 200
_WORK_CELLS: Final = 8_000_000_000
_BLOCK: Final = 128


@dataclass(frozen=True)
class Interval:
    """A confidence interval found by resampling images."""

    low: float
    high: float
    level: float
    """Share of resamples that lie inside."""
    num_resamples: int


def mean_ap_interval(
    scores: Scores,
    targets: Targets,
    *,
    kind: AveragePrecisionKind = "plain",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Percentile bootstrap interval of the mean average precision, by images.

    Each resample draws as many images as there are, with replacement, and gets its exact tie-aware mAP; a
    label that has no positive in it is left out of that resample's mean. It tells the spread over test
    images, not over training runs. The work is images x labels x resamples: where that exceeds 8e9 (half a
    minute) fewer resamples are drawn, and none where not even 200 fit.

    Args:
        scores: Higher for surer.
        targets: 1, 0, or below 0 where unknown.
        kind: Which average precision; see `metrics.average_precision`.
        num_resamples: Wanted number of resamples.
        seed: Equal seeds give equal intervals.
        level: Share of resamples inside the interval.

    Returns:
        The interval, None where it is not defined or too much work.
    """
    require_same_shape(scores, targets)
    affordable = min(num_resamples, _WORK_CELLS // max(scores.size, 1))
    if affordable < max(1, min(num_resamples, _FEWEST_RESAMPLES)):
        return None
    present = np.flatnonzero((targets == 1).any(axis=0))
    curves = [_curve(scores[:, label], targets[:, label]) for label in present]
    rng = np.random.default_rng(seed)
    means = [
        _resampled_map(curves, _draws(len(scores), min(_BLOCK, affordable - start), rng), kind)
        for start in range(0, affordable if curves else 0, _BLOCK)
    ]
    found = np.concatenate([np.empty(0), *means])
    if not len(found):
        return None
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level, num_resamples=affordable)


def _draws(num_images: int, num_resamples: int, rng: np.random.Generator) -> Float[Tensor, "n R"]:
    """How often each image is drawn in each resample; float32 counts exactly to 16 million."""
    counts = np.empty((num_images, num_resamples), dtype=np.float32)
    for column in range(num_resamples):
        counts[:, column] = np.bincount(rng.integers(num_images, size=num_images), minlength=num_images)
    return torch.from_numpy(counts)


def _curve(
    scores: Float[np.ndarray, " n"], targets: Int[np.ndarray, " n"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " p"]]:
    """How many distinct scores of positives each image reaches (0: none, or unknown), and the positives."""
    positive = np.flatnonzero(targets == 1)
    steps = np.searchsorted(np.unique(scores[positive]), scores, "right")
    steps[targets < 0] = 0
    return torch.from_numpy(steps.astype(np.int32)), torch.from_numpy(positive)


def _resampled_map(
    curves: list[tuple[Int[Tensor, " n"], Int[Tensor, " _"]]],
    draws: Float[Tensor, "n R"],
    kind: AveragePrecisionKind,
) -> Float[np.ndarray, " r"]:
    """The mAP of each resample, over the labels that have a positive in it."""
    total = torch.zeros(draws.shape[1], dtype=torch.float64)
    defined = torch.zeros(draws.shape[1], dtype=torch.float64)
    for steps, positive in curves:
        num_steps = int(steps.max())
        gained = torch.zeros(num_steps + 1, draws.shape[1])
        gained.index_add_(0, steps[positive], draws[positive])
        drawn = torch.zeros_like(gained).index_add_(0, steps, draws)
        hits, reached = (counts[1:].flip(0).cumsum(0) for counts in (gained, drawn))
        precision = hits.double() / reached.clamp(min=1)
        if kind != "plain":  # the best precision at this recall or a higher one
            precision = precision.flip(0).cummax(0).values.flip(0)
        if kind == "voc11":
            total += _at_tenths(precision, hits)
        else:
            total += (gained[1:].flip(0) * precision).sum(0) / hits[-1].clamp(min=1)
        defined += hits[-1] > 0
    return (total / defined)[defined > 0].numpy()


def _at_tenths(precision: Float[Tensor, "S R"], hits: Float[Tensor, "S R"]) -> Float[Tensor, " R"]:
    """Mean precision where the recall first reaches 0, 0.1 .. 1; `hits` rise to the number of positives."""
    wanted = hits[-1].double()
    steps = [(hits.double() * 10 < tenth * wanted).sum(0, keepdim=True) for tenth in range(11)]
    return torch.cat([precision.gather(0, step) for step in steps]).mean(0)
