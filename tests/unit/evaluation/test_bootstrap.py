"""The confidence interval of mAP against scikit-learn's weighted average precision."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from query2label.evaluation import bootstrap
from query2label.evaluation.bootstrap import mean_ap_interval
from query2label.metrics import mean_average_precision


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
