"""Set-aware confusion against a loop over every way to pair missed with false labels."""

from itertools import permutations

import numpy as np
import pytest

from query2label.report.confusion import set_confusion


def table(num_images=60, num_labels=5):
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2, (num_images, num_labels)).astype(np.int8)
    return rng.random(targets.shape) < 0.5, targets


def paired_off_by_hand(predicted, targets):
    """Counts pairs over all orders of the longer side, each equally likely."""
    num_labels = targets.shape[1]
    instead = np.zeros((num_labels, num_labels))
    left_out, added = np.zeros(num_labels), np.zeros(num_labels)
    for chosen, target in zip(predicted, targets, strict=True):
        missed = [k for k in range(num_labels) if target[k] == 1 and not chosen[k]]
        false = [k for k in range(num_labels) if target[k] == 0 and chosen[k]]
        size = max(len(missed), len(false))
        missed += [None] * (size - len(missed))
        false += [None] * (size - len(false))
        orders = list(permutations(false))
        for order in orders:
            for a, b in zip(missed, order, strict=True):
                if a is None and b is not None:
                    added[b] += 1 / len(orders)
                elif b is None and a is not None:
                    left_out[a] += 1 / len(orders)
                elif a is not None:
                    instead[a, b] += 1 / len(orders)
    return instead, left_out, added


def test_set_confusion__is_the_expected_number_of_pairs():
    predicted, targets = table()
    confusion = set_confusion(predicted, targets)
    instead, left_out, added = paired_off_by_hand(predicted, targets)
    np.testing.assert_allclose(confusion.instead, instead, atol=1e-12)
    np.testing.assert_allclose(confusion.left_out, left_out, atol=1e-12)
    np.testing.assert_allclose(confusion.added, added, atol=1e-12)


def test_set_confusion__counts_every_miss_and_every_false_decision_once():
    predicted, targets = table(500, 8)
    confusion = set_confusion(predicted, targets)
    misses = ((targets == 1) & ~predicted).sum(axis=0)
    false = ((targets == 0) & predicted).sum(axis=0)
    np.testing.assert_allclose(confusion.instead.sum(axis=1) + confusion.left_out, misses)
    np.testing.assert_allclose(confusion.instead.sum(axis=0) + confusion.added, false)


def test_set_confusion__one_label_for_another_counts_one():
    predicted = np.array([[False, True, True], [True, False, False], [False, True, True]])
    targets = np.array([[1, 0, 1], [1, 0, 0], [1, 0, -1]], dtype=np.int8)
    confusion = set_confusion(predicted, targets)
    assert confusion.pairs(5) == [(0, 1, 2.0)]
    assert confusion.instead.sum() == 2
    assert not confusion.left_out.any()
    assert not confusion.added.any()


def test_set_confusion__pairs_are_the_most_frequent_first():
    predicted, targets = table(500, 8)
    confusion = set_confusion(predicted, targets)
    pairs = confusion.pairs(4)
    assert [pair[2] for pair in pairs] == pytest.approx(np.sort(confusion.instead, axis=None)[:-5:-1])
    assert all(confusion.instead[a, b] == count for a, b, count in pairs)
