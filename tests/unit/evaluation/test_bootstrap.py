"""The confidence interval of mAP against scikit-learn's weighted average precision."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from query2label.evaluation import bootstrap
from query2label.evaluation.bootstrap import mean_ap_interval, paired_differences
from query2label.metrics import average_precision, count_decisions, decision_metrics, mean_average_precision


def table(num_images=150, num_labels=5):
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2, (num_images, num_labels)).astype(np.int8)
    targets[:, 3] = 0
    targets[:, 4] = 0
    targets[:2, 4] = 1  # so rare that resamples miss it
    scores = np.round(rng.random(targets.shape) + 0.3 * (targets == 1), 1).astype(np.float32)
    return scores, targets


def test_mean_ap_interval__equals_weighted_average_precision_of_each_resample():
    scores, targets = table()
    draws = bootstrap._draws(len(scores), 40, np.random.default_rng(7)).numpy()
    means = []
    for weight in draws.T:
        values = []
        for k in range(targets.shape[1]):
            known = targets[:, k] >= 0
            if weight[targets[:, k] == 1].sum():
                y, s, w = targets[known, k], scores[known, k], weight[known]
                values.append(average_precision_score(y, s, sample_weight=w))
        means.append(np.mean(values))
    interval = mean_ap_interval(scores, targets, num_resamples=40, seed=7)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)
    assert (interval.level, interval.num_resamples) == (0.95, 40)


@pytest.mark.parametrize("kind", ["plain", "voc", "voc11"])
def test_mean_ap_interval__is_that_of_the_metric_on_the_drawn_images(kind):
    scores, targets = table()
    draws = bootstrap._draws(len(scores), 40, np.random.default_rng(7)).numpy().astype(int)
    means = []
    for counts in draws.T:
        drawn = np.repeat(np.arange(len(scores)), counts)
        means.append(mean_average_precision(scores[drawn], targets[drawn], kind=kind))
    interval = mean_ap_interval(scores, targets, kind=kind, num_resamples=40, seed=7)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)


def test_mean_ap_interval__draws_as_many_images_as_there_are():
    draws = bootstrap._draws(50, 10, np.random.default_rng(0)).numpy()
    assert (draws.sum(axis=0) == 50).all()
    assert len({tuple(column) for column in draws.T}) == 10


def test_mean_ap_interval__is_the_same_for_the_same_seed_and_holds_the_estimate():
    scores, targets = table()
    first = mean_ap_interval(scores, targets, num_resamples=300)
    assert first == mean_ap_interval(scores, targets, num_resamples=300)
    assert first != mean_ap_interval(scores, targets, num_resamples=300, seed=1)
    assert first.low < mean_average_precision(scores, targets) < first.high


def test_mean_ap_interval__narrows_with_more_images():
    wide, narrow = (
        mean_ap_interval(scores[:, :3], targets[:, :3], num_resamples=200)
        for scores, targets in (table(60), table(3000))
    )
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3


def test_mean_ap_interval__is_none_without_positives_or_resamples():
    scores, targets = table()
    assert mean_ap_interval(scores, np.zeros_like(targets)) is None
    assert mean_ap_interval(scores, targets, num_resamples=0) is None
    assert mean_ap_interval(scores[:0], targets[:0]) is None


def test_mean_ap_interval__draws_fewer_or_none_where_the_work_is_too_much(monkeypatch):
    scores, targets = table()
    monkeypatch.setattr(bootstrap, "_WORK_CELLS", 250 * scores.size)
    assert mean_ap_interval(scores, targets).num_resamples == 250
    monkeypatch.setattr(bootstrap, "_WORK_CELLS", 199 * scores.size)
    assert mean_ap_interval(scores, targets) is None


THRESHOLDS = (np.array([0.5, 0.4, 0.6, 0.5, 0.7]), np.array([0.3, 0.6, 0.5, 0.5, 0.4]))


def pair():
    scores, targets = table()
    other = np.random.default_rng(3).permuted(scores, axis=0)
    other[::3] = scores[::3]
    return other, scores, targets


@pytest.mark.parametrize("kind", ["plain", "voc", "voc11"])
def test_paired_differences__are_those_of_the_metrics_on_the_same_drawn_images(kind):
    first, second, targets = pair()
    draws = bootstrap._draws(len(first), 40, np.random.default_rng(7)).numpy().astype(int)
    found = {"map": [], "cf1": [], "of1": []}
    per_label = []
    for counts in draws.T:
        drawn = np.repeat(np.arange(len(first)), counts)
        aps = [average_precision(s[drawn], targets[drawn], kind=kind) for s in (first, second)]
        found["map"].append(aps[1].mean() - aps[0].mean())
        per_label.append(np.where(aps[0].defined, aps[1].values - aps[0].values, np.nan))
        before, after = (
            decision_metrics(count_decisions(s[drawn], targets[drawn], thresholds=t))
            for s, t in zip((first, second), THRESHOLDS, strict=True)
        )
        found["cf1"].append(after.cf1 - before.cf1)
        found["of1"].append(after.of1 - before.of1)
    differences = paired_differences(
        first, second, targets, thresholds=THRESHOLDS, kind=kind, num_resamples=40, seed=7
    )
    for name, values in found.items():
        interval = getattr(differences, name)
        expected = np.quantile(values, [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-9)
    for interval, values in zip(differences.per_label, np.array(per_label).T, strict=True):
        if np.isnan(values).all():
            assert interval is None
        else:
            expected = np.nanquantile(values, [0.025, 0.975])
            assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-9)
    assert differences.per_label[3] is None


def test_paired_differences__of_equal_models_are_zero_and_narrower_than_unpaired_ones():
    first, second, targets = pair()
    same = paired_differences(second, second, targets, thresholds=(THRESHOLDS[0],) * 2, num_resamples=200)
    assert (same.map.low, same.map.high, same.cf1.low, same.of1.high) == (0, 0, 0, 0)
    assert same.per_label[0].num_resamples == 200
    forth = paired_differences(first, second, targets, thresholds=THRESHOLDS, num_resamples=200)
    back = paired_differences(second, first, targets, thresholds=THRESHOLDS[::-1], num_resamples=200)
    assert forth.map.low > 0
    assert (back.map.low, back.map.high) == pytest.approx((-forth.map.high, -forth.map.low))


def test_paired_differences__are_none_without_positives_or_resamples(monkeypatch):
    first, second, targets = pair()
    for options in ({"targets": np.zeros_like(targets)}, {"targets": targets, "num_resamples": 0}):
        nothing = paired_differences(first, second, thresholds=THRESHOLDS, **options)
        assert (nothing.map, nothing.cf1, nothing.of1, set(nothing.per_label)) == (None, None, None, {None})
    monkeypatch.setattr(bootstrap, "_WORK_CELLS", 2 * 199 * first.size)
    assert paired_differences(first, second, targets, thresholds=THRESHOLDS).map is None
