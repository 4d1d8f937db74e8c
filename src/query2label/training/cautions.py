"""What a run says of its own results where they are less sure than they look, one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from query2label.evaluation.thresholds import FEW_POSITIVES
from query2label.metrics.arrays import Targets
from query2label.training.metrics_log import Record
from query2label.training.progress import as_text, named


def label_cautions(labels: Sequence[str], targets: Targets) -> list[str]:
    """Of the labels that the validation images do not show, show everywhere, or show too seldom.

    Args:
        labels: One name per column.
        targets: Of the validation images: 1, 0, or below 0 where unknown.
    """
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    never = _chosen(labels, positives == 0)
    always = _chosen(labels, (positives > 0) & (negatives == 0))
    rare = _chosen(labels, (positives > 0) & (positives < FEW_POSITIVES))
    found = []
    if never:
        found.append(
            f"{_count(never, labels)} never shown by a validation image and in no mean: {named(never)}."
        )
    if always:
        found.append(
            f"{_count(always, labels)} shown by all validation images, so that their average precision and "
            f"threshold say nothing: {named(always)}."
        )
    if rare:
        found.append(
            f"{_count(rare, labels)} shown by fewer than {FEW_POSITIVES} validation images, too few to trust "
            f"their average precision and threshold: {named(rare)}."
        )
    return found


def noise_caution(records: Sequence[Record]) -> str | None:
    """That the best epoch is no better than the best before it, if that is so as far as the images can tell.

    Args:
        records: The epochs of the run.
    """
    best = [record for record in records if record["best"]]
    if len(best) < 2 or best[-1].get("gain_interval") is None or is_beyond_noise(best[-1]["gain_interval"]):
        return None
    last, before = best[-1], best[-2]
    return (
        f"The best epoch {last['epoch']} (mAP {as_text(last['map'])}) is not better than epoch "
        f"{before['epoch']} (mAP {as_text(before['map'])}) beyond noise: 95 % interval of the difference "
        f"{in_signs(last['gain_interval'])}."
    )


def is_beyond_noise(gain: Sequence[float]) -> bool:
    """Whether an interval of a gain is above 0 as a whole."""
    return gain[0] > 0


def in_signs(interval: Sequence[float]) -> str:
    """An interval of a difference, for people."""
    low, high = interval
    return f"{low:+.4f} to {high:+.4f}"


def _chosen(labels: Sequence[str], chosen: np.ndarray) -> list[str]:
    return [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]


def _count(some: Sequence[str], labels: Sequence[str]) -> str:
    return f"{len(some)} of {len(labels)} labels {'is' if len(some) == 1 else 'are'}"
