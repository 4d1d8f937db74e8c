"""Which images a page shows: few, and those that a person should look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np

from query2label.metrics import label_columns
from query2label.metrics.arrays import Scores, Targets

_T = TypeVar("_T")

MAX_PICTURES: Final = 1_000
_MOST_PER_LABEL: Final = 12
_SHARE_OF_LABELS: Final = 600
"""Of the pictures, about so many are chosen label by label."""


def worst_rows(scores: Scores, targets: Targets) -> list[list[int]]:
    """For each label the rows of its worst misses and most confident false alarms, in turn, the worst first.

    These are the positives with the lowest scores and the negatives with the highest: whatever the
    threshold, the worst mistakes at it are the first of each. Labels share about 600 places, at most 12 and
    at least one of each kind for a label.
    """
    num_labels = scores.shape[1]
    each = max(1, min(_MOST_PER_LABEL, _SHARE_OF_LABELS // (2 * max(num_labels, 1))))
    found: list[list[int]] = []
    for score, target in label_columns(scores, targets):
        positives, negatives = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
        missed = positives[np.argsort(score[positives], kind="stable")[:each]].tolist()
        false = negatives[np.argsort(-score[negatives], kind="stable")[:each]].tolist()
        found.append(_in_turn([missed, false]))
    return found


def chosen_pictures(
    worst: Iterable[Sequence[Sequence[int]]],
    others: Iterable[Sequence[tuple[int, int]]] = (),
    *,
    limit: int = MAX_PICTURES,
) -> Mapping[int, tuple[int, ...]]:
    """Which images get a picture, each with the labels it is shown for.

    Args:
        worst: Of each model what `worst_rows` gives.
        others: Further (row, label), the most wanted first.
        limit: Largest number of pictures. The lists, and within `worst` the labels, take turns.

    Returns:
        Row -> labels, in order of the rows.
    """
    per_label = [[(row, label) for row in rows] for model in worst for label, rows in enumerate(model)]
    lists = [_in_turn(per_label), *others]
    chosen: defaultdict[int, dict[int, None]] = defaultdict(dict)
    for row, label in _in_turn(lists):
        if row in chosen or len(chosen) < limit:
            chosen[row][label] = None
    return {row: tuple(chosen[row]) for row in sorted(chosen)}


def _in_turn(lists: Sequence[Sequence[_T]]) -> list[_T]:
    """The first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [each[place] for place in range(longest) for each in lists if place < len(each)]
