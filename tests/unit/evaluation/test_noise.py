"""The noise of a difference of two mAPs, by hand, by small steps, and beside the bootstrap."""

import numpy as np
import pytest

from query2label.evaluation.bootstrap import paired_differences
from query2label.evaluation.noise import difference_interval, mean_ap_influence
from query2label.metrics import mean_average_precision


def test_mean_ap_influence__by_hand() -> None:
    """Ranked + - + with weights a, b, c: AP = a / (a + c) + c / (a + b + c), 5/6 if they are 1."""
    scores = np.array([[0.9], [0.5], [0.1]])
    targets = np.array([[1], [0], [1]], dtype=np.int8)
    expected = [1 / 4 - 1 / 9, -1 / 9, -1 / 4 + 2 / 9]
    assert mean_ap_influence(scores, targets) == pytest.approx(expected, abs=1e-12)


def weighted_map(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    aps = []
    for column, judged in zip(scores.T, targets.T, strict=True):
        positives = np.flatnonzero(judged == 1)
        if not len(positives):
            continue
        precisions = []
        for positive in positives:
            above = (column >= column[positive]) & (judged >= 0)
            precisions.append(weights[above & (judged == 1)].sum() / weights[above].sum())
        aps.append(np.average(precisions, weights=weights[positives]))
    return float(np.mean(aps))


def test_mean_ap_influence__is_the_derivative_by_each_images_weight() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 8, (40, 5)) / 8  # with ties
    targets = rng.choice([-1, 0, 0, 1], (40, 5)).astype(np.int8)
    targets[:, 4] = 0  # in no mean
    found = mean_ap_influence(scores, targets)
    ones = np.ones(40)
    assert weighted_map(scores, targets, ones) == pytest.approx(mean_average_precision(scores, targets))
    for image in range(40):
        step = np.eye(40)[image] * 1e-5
        change = weighted_map(scores, targets, ones + step) - weighted_map(scores, targets, ones - step)
        assert found[image] == pytest.approx(change / 2e-5, abs=1e-8)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_mean_ap_influence__without_a_positive_is_nothing() -> None:
    assert not mean_ap_influence(np.ones((3, 2)), np.zeros((3, 2), dtype=np.int8)).any()


def test_difference_interval__by_hand() -> None:
    first, second = np.array([0.01, -0.01, 0.0]), np.array([0.04, -0.01, 0.04])
    low, high = difference_interval(0.1, first, second)  # the root of 0.03^2 + 0.04^2 is 0.05
    assert (low, high) == pytest.approx((0.1 - 1.959964 * 0.05, 0.1 + 1.959964 * 0.05))
    assert difference_interval(0.0, first, first) == (0.0, 0.0)


@pytest.mark.parametrize("share", [0.03, 0.2])
def test_difference_interval__is_about_that_of_the_paired_bootstrap(share: float) -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((600, 20)) < share).astype(np.int8)
    first = rng.normal(size=targets.shape) + 1.5 * targets
    second = first + 0.4 * rng.normal(size=targets.shape) + 0.2 * targets
    maps = [mean_average_precision(scores, targets) for scores in (first, second)]
    influences = [mean_ap_influence(scores, targets) for scores in (first, second)]
    low, high = difference_interval(maps[1] - maps[0], *influences)
    half = np.full(20, 0.5)
    drawn = paired_differences(first, second, targets, thresholds=(half, half)).map
    assert drawn is not None
    assert high - low == pytest.approx(drawn.high - drawn.low, rel=0.15)
    assert low == pytest.approx(drawn.low, abs=0.1 * (high - low))
