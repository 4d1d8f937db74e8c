"""How far a number, or the difference between two models, could be off because of the images drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from query2label.bundle import predicted
from query2label.metrics import AveragePrecisionKind, DecisionCounts, decision_metrics
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
    affordable = _affordable(num_resamples, scores.size)
    curves = _curves(scores, targets)
    if not affordable or not curves:
        return None
    means = [_mean(_resampled_aps(curves, draws, kind)) for draws in _blocks(len(scores), affordable, seed)]
    return _interval(np.concatenate(means), level, affordable)


@dataclass(frozen=True)
class PairedDifferences:
    """How much a second model is better than a first on the same images, in [-1, 1]; None where undefined.

    An interval that holds 0 does not tell which of the two is better on other images of this kind.
    """

    map: Interval | None
    """Of the difference of the mean average precisions."""
    per_label: tuple[Interval | None, ...]
    """Of the difference of each label's average precisions."""
    cf1: Interval | None
    """Of the difference of CF1, each model at its own thresholds."""
    of1: Interval | None
    """Of the difference of OF1, each model at its own thresholds."""


def paired_differences(
    first: Scores,
    second: Scores,
    targets: Targets,
    *,
    thresholds: tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]],
    kind: AveragePrecisionKind = "plain",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifferences:
    """Percentile bootstrap intervals of what the second model has more than the first, by images.

    Each resample is drawn once and both models are measured on it, so that what makes images easy or hard
    for both is not taken for a difference between them. Work, resamples and seed are as in
    `mean_ap_interval`.

    Args:
        first: Scores of one model; higher for surer.
        second: Scores of another one on the same images.
        targets: 1, 0, or below 0 where unknown.
        thresholds: Of the first model and of the second.
        kind: Which average precision.
        num_resamples: Wanted number of resamples.
        seed: Equal seeds give equal intervals.
        level: Share of resamples inside the intervals.

    Returns:
        The intervals; a label is measured on the resamples that have a positive of it.
    """
    require_same_shape(first, targets)
    require_same_shape(second, targets)
    affordable = _affordable(num_resamples, 2 * first.size)
    num_labels = first.shape[1]
    present = np.flatnonzero((targets == 1).any(axis=0))
    if not affordable or not len(present):
        return PairedDifferences(None, (None,) * num_labels, None, None)
    pair = (_curves(first, targets), _curves(second, targets))
    decided = [_Decided.of(*both, targets) for both in zip((first, second), thresholds, strict=True)]
    maps, aps, decisions = [], [], []
    for draws in _blocks(len(first), affordable, seed):
        before, after = (_resampled_aps(curves, draws, kind) for curves in pair)
        maps.append(_mean(after) - _mean(before))
        aps.append(after - before)
        first_f1s, second_f1s = (each.resampled_f1s(draws) for each in decided)
        decisions.append(second_f1s - first_f1s)
    cf1, of1 = np.concatenate(decisions, axis=1)
    per_label: list[Interval | None] = [None] * num_labels
    for label, differences in zip(present.tolist(), np.concatenate(aps, axis=1), strict=True):
        per_label[label] = _interval(differences, level, affordable)
    return PairedDifferences(
        map=_interval(np.concatenate(maps), level, affordable),
        per_label=tuple(per_label),
        cf1=_interval(cf1, level, affordable),
        of1=_interval(of1, level, affordable),
    )


@dataclass(frozen=True)
class _Decided:
    """Which decisions of a model were right, which it made, and which labels there are; float32 0 or 1."""

    hits: Float[Tensor, "n K"]
    predicted: Float[Tensor, "n K"]
    positives: Float[Tensor, "n K"]

    @classmethod
    def of(cls, scores: Scores, thresholds: Float[np.ndarray, " K"], targets: Targets) -> _Decided:
        chosen = predicted(scores, thresholds) & (targets >= 0)
        tables = (chosen & (targets == 1), chosen, targets == 1)
        return cls(*(torch.from_numpy(table.astype(np.float32)) for table in tables))

    def resampled_f1s(self, draws: Float[Tensor, "n R"]) -> Float[np.ndarray, "2 R"]:
        """CF1 and OF1 of each resample; NaN where it has no positive."""
        hits, chosen, positives = (
            (draws.T @ table).double().numpy().astype(np.int64)
            for table in (self.hits, self.predicted, self.positives)
        )
        no_images = np.zeros(1, dtype=np.int64)  # means over images are not asked for
        metrics = [
            decision_metrics(DecisionCounts(*row, no_images, no_images, no_images))
            for row in zip(hits, chosen, positives, strict=True)
        ]
        return np.array([[m.cf1 for m in metrics], [m.of1 for m in metrics]], dtype=np.float64)


def _affordable(num_resamples: int, num_cells: int) -> int:
    """How many resamples may be drawn; 0 where these are too few to say anything."""
    affordable = min(num_resamples, _WORK_CELLS // max(num_cells, 1))
    return affordable if affordable >= max(1, min(num_resamples, _FEWEST_RESAMPLES)) else 0


def _blocks(num_images: int, num_resamples: int, seed: int) -> Iterator[Float[Tensor, "n R"]]:
    rng = np.random.default_rng(seed)
    for start in range(0, num_resamples, _BLOCK):
        yield _draws(num_images, min(_BLOCK, num_resamples - start), rng)


def _interval(found: Float[np.ndarray, " r"], level: float, num_resamples: int) -> Interval | None:
    defined = found[~np.isnan(found)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level, num_resamples=num_resamples)


def _mean(aps: Float[np.ndarray, "P R"]) -> Float[np.ndarray, " R"]:
    """Mean over the labels that a resample has a positive of; NaN where it has none."""
    defined = ~np.isnan(aps)
    total = np.where(defined, aps, 0.0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


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


def _curves(scores: Scores, targets: Targets) -> list[tuple[Int[Tensor, " n"], Int[Tensor, " _"]]]:
    """`_curve` of each label that has a positive."""
    present = np.flatnonzero((targets == 1).any(axis=0))
    return [_curve(scores[:, label], targets[:, label]) for label in present]


def _resampled_aps(
    curves: list[tuple[Int[Tensor, " n"], Int[Tensor, " _"]]],
    draws: Float[Tensor, "n R"],
    kind: AveragePrecisionKind,
) -> Float[np.ndarray, "P R"]:
    """The average precision of each label in each resample; NaN where that has no positive of the label."""
    aps = np.empty((len(curves), draws.shape[1]))
    for row, (steps, positive) in zip(aps, curves, strict=True):
        num_steps = int(steps.max())
        gained = torch.zeros(num_steps + 1, draws.shape[1])
        gained.index_add_(0, steps[positive], draws[positive])
        drawn = torch.zeros_like(gained).index_add_(0, steps, draws)
        hits, reached = (counts[1:].flip(0).cumsum(0) for counts in (gained, drawn))
        precision = hits.double() / reached.clamp(min=1)
        if kind != "plain":  # the best precision at this recall or a higher one
            precision = precision.flip(0).cummax(0).values.flip(0)
        if kind == "voc11":
            ap = _at_tenths(precision, hits)
        else:
            ap = (gained[1:].flip(0) * precision).sum(0) / hits[-1].clamp(min=1)
        row[:] = torch.where(hits[-1] > 0, ap, torch.nan).numpy()
    return aps


def _at_tenths(precision: Float[Tensor, "S R"], hits: Float[Tensor, "S R"]) -> Float[Tensor, " R"]:
    """Mean precision where the recall first reaches 0, 0.1 .. 1; `hits` rise to the number of positives."""
    wanted = hits[-1].double()
    steps = [(hits.double() * 10 < tenth * wanted).sum(0, keepdim=True) for tenth in range(11)]
    return torch.cat([precision.gather(0, step) for step in steps]).mean(0)
