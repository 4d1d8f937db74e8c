"""The fitted temperature against a fine grid, and at the edges."""

import numpy as np
import pytest

from query2label.errors import DataError
from query2label.evaluation.calibration import fit_temperature
from query2label.metrics import calibration_error


def cross_entropy(logits, targets, temperature):
    z = logits.astype(np.float64) / temperature
    known = targets >= 0
    return (np.logaddexp(0, z) - z * (targets == 1))[known].mean()


def draw(seed, *, true_temperature, num_images=400, num_labels=6):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (num_images, num_labels))
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    targets[rng.random(targets.shape) < 0.2] = -1
    return (logits * true_temperature).astype(np.float32), targets


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 3.0])
def test_fit_temperature__is_the_minimum_of_the_cross_entropy(true_temperature):
    logits, targets = draw(0, true_temperature=true_temperature)
    fitted = fit_temperature(logits, targets)
    assert fitted == pytest.approx(true_temperature, rel=0.15)
    grid = fitted * np.exp(np.linspace(-0.5, 0.5, 41))
    assert (
        cross_entropy(logits, targets, fitted) <= min(cross_entropy(logits, targets, t) for t in grid) + 1e-12
    )
    for factor in (1 - 1e-4, 1 + 1e-4):
        assert cross_entropy(logits, targets, fitted) < cross_entropy(logits, targets, factor * fitted)


def test_fit_temperature__lowers_the_calibration_error_of_overconfident_scores():
    logits, targets = draw(1, true_temperature=4.0)
    before, after = (1 / (1 + np.exp(-logits / t)) for t in (1.0, fit_temperature(logits, targets)))
    assert calibration_error(after, targets) < calibration_error(before, targets) / 2


def test_fit_temperature__is_bounded_where_the_logits_separate_or_contradict_everything():
    logits = np.array([[2.0], [-2.0]], np.float32)
    assert fit_temperature(logits, np.array([[1], [0]], np.int8)) == pytest.approx(0.05)
    assert fit_temperature(logits, np.array([[0], [1]], np.int8)) == pytest.approx(20)


def test_fit_temperature__huge_logits_do_not_overflow():
    logits = np.array([[1e4], [-1e4], [1e4]], np.float32)
    assert fit_temperature(logits, np.array([[1], [0], [0]], np.int8)) == pytest.approx(20)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
def test_fit_temperature__is_one_where_nothing_is_known(shape):
    assert fit_temperature(np.ones(shape, np.float32), np.full(shape, -1, np.int8)) == 1.0
    assert fit_temperature(np.zeros((4, 1), np.float32), np.array([[1], [0], [0], [1]], np.int8)) == 1.0


def test_fit_temperature__refuses_logits_that_are_not_finite():
    with pytest.raises(DataError, match="temperature cannot be fitted: the model gives logits that"):
        fit_temperature(np.array([[np.nan]], np.float32), np.array([[1]], np.int8))
