"""Fitted thresholds: the rules, what labels without positives get, and what shrinkage is worth."""

import numpy as np
import pytest

from query2label.errors import ConfigError
from query2label.evaluation.thresholds import ThresholdRule, fit_thresholds, parse_rule
from query2label.metrics import count_decisions, decision_metrics


def simulate(seed, *, num_images=400, num_labels=40):
    """Two draws of scores and targets; labels are rare to common and differ in how well they are scored."""
    rng = np.random.default_rng(seed)
    share = np.exp(rng.uniform(np.log(0.005), np.log(0.05), num_labels))
    gap = rng.normal(3, 1, num_labels).clip(1)
    bias = rng.normal(0, 0.5, num_labels)

    def draw():
        targets = rng.random((num_images, num_labels)) < share
        evidence = rng.normal(size=targets.shape) + gap * targets
        logits = gap * evidence - gap**2 / 2 + np.log(share / (1 - share)) + bias
        return (1 / (1 + np.exp(-logits))).astype(np.float32), targets.astype(np.int8)

    return draw(), draw()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("f1", ThresholdRule("f1")),
        ("precision=0.9", ThresholdRule("precision", 0.9)),
        ("recall=1", ThresholdRule("recall", 1.0)),
    ],
)
def test_parse_rule__reads_the_three_rules(text, rule):
    assert parse_rule(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize(
    "text", ["", "F1", "f1=0.9", "precision", "recall=0", "precision=1.1", "recall=x", "recall=nan"]
)
def test_parse_rule__refuses_others(text):
    with pytest.raises(ConfigError, match=r"Unknown threshold rule '.*': write f1, precision=P or recall=R"):
        parse_rule(text)


def test_fit_thresholds__f1_separates_at_the_midpoint():
    scores = np.array([[0.1], [0.4], [0.6], [0.9]], np.float32)
    targets = np.array([[0], [0], [1], [1]], np.int8)
    assert fit_thresholds(scores, targets) == pytest.approx([0.5])


def test_fit_thresholds__unshrunk_f1_is_the_best_of_all_thresholds():
    (scores, targets), _ = simulate(0)
    fitted = fit_thresholds(scores, targets, shrinkage=0.0)
    f1 = count_decisions(scores, targets, thresholds=fitted).f1()
    for threshold in np.linspace(0.01, 0.99, 50):
        other = count_decisions(scores, targets, thresholds=threshold).f1()
        assert (f1.values[f1.defined] >= other.values[f1.defined] - 1e-12).all()


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_fit_thresholds__keep_the_wanted_recall_of_every_label(wanted):
    (scores, targets), _ = simulate(1)
    fitted = fit_thresholds(scores, targets, rule=f"recall={wanted}")
    recall = count_decisions(scores, targets, thresholds=fitted).recall()
    assert (recall.values[recall.defined] >= wanted).all()
    higher = count_decisions(scores, targets, thresholds=np.nextafter(1, 0)).recall()
    assert higher.mean() < recall.mean()


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.9])
def test_fit_thresholds__keep_the_wanted_precision_where_any_threshold_does(wanted):
    (scores, targets), _ = simulate(2)
    fitted = fit_thresholds(scores, targets, rule=f"precision={wanted}")
    counts = count_decisions(scores, targets, thresholds=fitted)
    for label in np.flatnonzero(counts.label_positives):
        column = scores[:, [label]], targets[:, [label]]
        reachable = [
            count_decisions(*column, thresholds=float(score)).precision().values[0]
            for score in scores[targets[:, label] == 1, label]
        ]
        if max(reachable) >= wanted:
            assert counts.precision().values[label] >= wanted


def test_fit_thresholds__unreachable_precision_takes_the_highest_there_is():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    targets = np.array([[0], [1], [0], [0]], np.int8)
    fitted = fit_thresholds(scores, targets, rule="precision=0.9")
    assert 0.7 < fitted[0] <= 0.8


def test_fit_thresholds__label_without_positives_gets_the_shared_threshold():
    rng = np.random.default_rng(0)
    targets = (rng.random((500, 3)) < 0.3).astype(np.int8)
    scores = (0.2 * rng.random((500, 3)) + 0.3 * targets).astype(np.float32)  # all are told apart at 0.25
    targets[:, 1] = 0
    for rule in ("f1", "recall=1", "precision=1"):
        fitted = fit_thresholds(scores, targets, rule=rule)
        assert min(fitted[0], fitted[2]) <= fitted[1] <= max(fitted[0], fitted[2])


def test_fit_thresholds__are_one_half_where_nothing_is_known():
    scores = np.full((4, 2), 0.3, np.float32)
    assert fit_thresholds(scores, np.full((4, 2), -1, np.int8)).tolist() == [0.5, 0.5]
    assert fit_thresholds(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int8)).tolist() == [0.5, 0.5]


def test_fit_thresholds__stay_in_the_unit_interval_with_saturated_scores():
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    targets = np.array([[1, 1], [1, 0], [0, 1], [1, 0]], np.int8)
    for rule in ("f1", "recall=1", "precision=0.9"):
        fitted = fit_thresholds(scores, targets, rule=rule)
        assert ((fitted >= 0) & (fitted <= 1)).all()


def test_fit_thresholds__more_positives_move_a_label_less():
    rng = np.random.default_rng(0)
    scores = rng.random((2000, 3), dtype=np.float32)
    targets = (scores > np.array([0.2, 0.8, 0.8])).astype(np.int8)
    targets[np.flatnonzero(targets[:, 2])[2:], 2] = -1  # two positives are left of the third label
    own = fit_thresholds(scores, targets, shrinkage=0.0)
    moved = np.abs(fit_thresholds(scores, targets) - own)
    assert moved[1] < 0.01
    assert moved[2] > 0.05


def test_fit_thresholds__shrinkage_improves_held_out_f1_of_rare_labels():
    gains, gains_overall = [], []
    for seed in range(12):
        (scores, targets), held_out = simulate(seed)
        rare = (targets.sum(axis=0) <= 10) & held_out[1].any(axis=0)
        results = {}
        for shrinkage in (0.0, 2.0):
            counts = count_decisions(
                *held_out, thresholds=fit_thresholds(scores, targets, shrinkage=shrinkage)
            )
            results[shrinkage] = counts.f1().values[rare].mean(), decision_metrics(counts).macro_f1
        gains.append(results[2.0][0] - results[0.0][0])
        gains_overall.append(results[2.0][1] - results[0.0][1])
    assert np.mean(gains) > 0.01
    assert np.mean(gains_overall) > 0.005
