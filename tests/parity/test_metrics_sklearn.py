"""The metrics against scikit-learn, and the interpolated average precisions against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from query2label.metrics import (
    average_precision,
    calibration_error,
    count_decisions,
    decision_metrics,
    mean_average_precision,
    roc_auc,
)

EXACT = {"rel": 0, "abs": 1e-9}


def make_case(kind, seed):
    rng = np.random.default_rng(seed)
    num_images, num_labels = 200, 12
    scores = rng.random((num_images, num_labels), dtype=np.float32)
    targets = (rng.random((num_images, num_labels)) < rng.random(num_labels) ** 2).astype(np.int8)
    if kind == "heavy ties":
        scores = np.round(scores * 4).astype(np.float32) / 4
    if kind == "all tied":
        scores[:] = 0.5
    if kind == "unknown":
        targets[rng.random(targets.shape) < 0.4] = -1
    if kind == "absent and full":
        targets[:, 0], targets[:, 1] = 0, 1
        targets[:, 2] = np.where(rng.random(num_images) < 0.5, 1, -1)
        targets[:, 3] = -1
    if kind == "one image":
        scores, targets = scores[:1], targets[:1]
    if kind == "double precision logits":
        scores = 20 * rng.normal(size=scores.shape)
    return scores, targets


CASES = [
    "plain",
    "heavy ties",
    "all tied",
    "unknown",
    "absent and full",
    "one image",
    "double precision logits",
]
every_case = pytest.mark.parametrize("kind", CASES)


@st.composite
def tables(draw):
    shape = draw(st.tuples(st.integers(0, 12), st.integers(1, 4)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.integers(0, levels).map(lambda i: i / levels)))
    targets = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1])))
    return scores, targets


def known(scores, targets, label):
    keep = targets[:, label] >= 0
    return targets[keep, label], scores[keep, label]


def check_ranking(scores, targets):
    plain, auc = average_precision(scores, targets).to_list(), roc_auc(scores, targets).to_list()
    for label in range(targets.shape[1]):
        y, s = known(scores, targets, label)
        if not y.any():
            assert plain[label] is None
        else:
            assert plain[label] == pytest.approx(sk.average_precision_score(y, s), **EXACT)
        if len(np.unique(y)) < 2:
            assert auc[label] is None
        else:
            assert auc[label] == pytest.approx(sk.roc_auc_score(y, s), **EXACT)
    defined = [value for value in plain if value is not None]
    assert mean_average_precision(scores, targets) == (
        pytest.approx(np.mean(defined), **EXACT) if defined else None
    )


def check_interpolated(scores, targets):
    """Against the precision-recall curve of scikit-learn and the definition of both interpolations."""
    voc = average_precision(scores, targets, kind="voc").to_list()
    voc11 = average_precision(scores, targets, kind="voc11").to_list()
    for label in range(targets.shape[1]):
        y, s = known(scores, targets, label)
        if not y.any():
            assert voc[label] is None
            assert voc11[label] is None
            continue
        precision, recall, _ = sk.precision_recall_curve(y, s)  # recall falls to 0, where precision is 1
        precision, recall = precision[:-1], recall[:-1]
        steps = np.unique(recall[recall > 0])
        best = [precision[recall >= step].max() for step in steps]
        assert voc[label] == pytest.approx(np.sum(np.diff(steps, prepend=0) * best), **EXACT)
        at_tenths = [precision[recall >= tenth / 10 - 1e-12].max() for tenth in range(11)]
        assert voc11[label] == pytest.approx(np.mean(at_tenths), **EXACT)


def check_decisions(scores, targets, *, thresholds=None, top_k=None):
    counts = count_decisions(scores, targets, thresholds=thresholds, top_k=top_k)
    decided = np.ones(targets.shape, dtype=int)
    if thresholds is not None:
        decided &= scores >= np.asarray(thresholds, dtype=scores.dtype)
    if top_k is not None:
        places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
        decided &= places < top_k
    ours = decision_metrics(counts)
    truth, decided = np.where(targets == 1, 1, 0), np.where(targets >= 0, decided, 0)
    present = np.flatnonzero(truth.any(axis=0))
    if not len(present):
        assert ours.of1 is None
        return
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, decided, average=None, zero_division=0
    )
    assert counts.precision().values == pytest.approx(precision, **EXACT)
    assert counts.recall().values == pytest.approx(recall, **EXACT)
    assert counts.f1().values[present] == pytest.approx(f1[present], **EXACT)
    assert counts.label_positives.tolist() == support.tolist()
    expected = {}
    for average, labels in (("macro", present), ("micro", None), ("samples", None)):
        p, r, f, _ = sk.precision_recall_fscore_support(
            truth, decided, average=average, labels=labels, zero_division=0
        )
        expected |= {f"{average}_p": p, f"{average}_r": r, f"{average}_f": f}
    assert ours.cp == pytest.approx(expected["macro_p"], **EXACT)
    assert ours.cr == pytest.approx(expected["macro_r"], **EXACT)
    assert ours.macro_f1 == pytest.approx(expected["macro_f"], **EXACT)
    assert ours.op == pytest.approx(expected["micro_p"], **EXACT)
    assert ours.or_ == pytest.approx(expected["micro_r"], **EXACT)
    assert ours.of1 == pytest.approx(expected["micro_f"], **EXACT)
    assert ours.sample_precision == pytest.approx(expected["samples_p"], **EXACT)
    assert ours.sample_recall == pytest.approx(expected["samples_r"], **EXACT)
    assert ours.sample_f1 == pytest.approx(expected["samples_f"], **EXACT)


def check_calibration(scores, targets):
    """Against a loop over bins; scikit-learn has no such error."""
    mask = targets >= 0
    y, s = targets[mask].astype(np.float64), scores[mask].astype(np.float64)
    if not len(y):
        assert calibration_error(scores, targets) is None
        return
    edges = np.asarray(np.arange(1, 15) / 15, dtype=scores.dtype)
    bins = np.digitize(scores[mask], edges)
    error = sum(abs(s[bins == b].sum() - y[bins == b].sum()) for b in range(15)) / len(y)
    assert calibration_error(scores, targets) == pytest.approx(error, **EXACT)


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_metrics__agree_with_sklearn(kind, seed):
    scores, targets = make_case(kind, seed)
    check_ranking(scores, targets)
    check_interpolated(scores, targets)
    for rule in ({"thresholds": 0.5}, {"top_k": 3}, {"thresholds": 0.5, "top_k": 3}):
        check_decisions(scores, targets, **rule)
    check_decisions(scores, targets, thresholds=np.linspace(0.1, 0.9, targets.shape[1]))
    if kind != "double precision logits":
        check_calibration(scores, targets)


@settings(max_examples=80, deadline=None)
@given(tables(), st.integers(1, 5))
def test_metrics__agree_with_sklearn_on_any_small_table(table, top_k):
    scores, targets = table
    check_ranking(scores, targets)
    check_interpolated(scores, targets)
    check_calibration(scores, targets)
    if targets.size and targets.shape[1] > 1:  # scikit-learn takes one column for a binary problem
        check_decisions(scores, targets, thresholds=0.5)
        check_decisions(scores, targets, top_k=top_k)
