"""Metrics on cases small enough to check by hand; agreement with scikit-learn is in tests/parity."""

import math

import numpy as np
import pytest

from query2label.metrics import (
    CalibrationBins,
    average_precision,
    calibration_error,
    count_decisions,
    decision_metrics,
    mean_average_precision,
    ranked_labels,
    roc_auc,
)
from query2label.metrics import ranking as ranking_module
from query2label.metrics.arrays import require_same_shape, row_blocks


def column(values, dtype=np.float32):
    return np.array(values, dtype=dtype).reshape(-1, 1)


SCORES = column([0.9, 0.8, 0.7, 0.6, 0.5])
TARGETS = column([1, 0, 1, 0, 1], np.int8)


def test_average_precision__plain_by_hand():
    assert average_precision(SCORES, TARGETS).to_list() == [pytest.approx((1 + 2 / 3 + 3 / 5) / 3)]


def test_average_precision__voc_takes_the_best_precision_to_the_right():
    targets = column([0, 1, 1, 0, 1], np.int8)  # precisions at positives 1/2, 2/3, 3/5
    assert average_precision(SCORES, targets, kind="voc").to_list() == [
        pytest.approx((2 / 3 + 2 / 3 + 3 / 5) / 3)
    ]


def test_average_precision__voc11_samples_eleven_recalls():
    # Recalls 0 .. 0.3 need the first positive, 0.4 .. 0.6 the second, 0.7 .. 1 the third.
    expected = (4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11
    assert average_precision(SCORES, TARGETS, kind="voc11").to_list() == [pytest.approx(expected)]


def test_average_precision__voc11_counts_a_recall_that_is_reached_exactly():
    scores = column(np.linspace(1, 0, 20))
    targets = column([1] * 10 + [0] * 10, np.int8)
    targets[:, 0][[3, 10]] = targets[:, 0][[10, 3]]  # recalls 0.1 .. 0.3 at precision 1, then lower
    expected = (4 * 1 + 7 * 10 / 11) / 11
    assert average_precision(scores, targets, kind="voc11").to_list() == [pytest.approx(expected)]


@pytest.mark.parametrize("kind", ["plain", "voc", "voc11"])
def test_average_precision__ties_enter_together_in_any_order(kind):
    scores = column([0.5] * 4)
    for positive in range(4):
        targets = np.zeros((4, 1), np.int8)
        targets[positive] = 1
        assert average_precision(scores, targets, kind=kind).to_list() == [pytest.approx(1 / 4)]


@pytest.mark.parametrize("kind", ["plain", "voc", "voc11"])
def test_average_precision__absent_labels_are_undefined_and_left_out_of_the_mean(kind):
    scores = np.array([[0.9, 0.2, 0.1], [0.1, 0.3, 0.2]], np.float32)
    targets = np.array([[1, 0, -1], [0, 0, -1]], np.int8)
    result = average_precision(scores, targets, kind=kind)
    assert result.to_list() == [1.0, None, None]
    assert np.isfinite(result.values).all()
    assert mean_average_precision(scores, targets, kind=kind) == 1.0


def test_mean_average_precision__is_none_without_positives():
    assert mean_average_precision(SCORES, np.zeros_like(TARGETS)) is None
    assert mean_average_precision(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int8)) is None


def test_average_precision__ignores_unknown_even_where_the_score_is_nan():
    scores = np.concatenate([SCORES, column([0.95, math.nan])])
    targets = np.concatenate([TARGETS, column([-1, -1], np.int8)])
    assert average_precision(scores, targets).to_list() == average_precision(SCORES, TARGETS).to_list()


def test_ranking__refuses_a_nan_score():
    scores = np.array([[0.1, math.nan], [0.2, 0.3]], np.float32)
    with pytest.raises(ValueError, match="A known score is NaN"):
        average_precision(scores, np.zeros((2, 2), np.int8))


def test_require_same_shape__refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match=r"Scores have shape \(5, 1\) and targets \(4, 1\)"):
        require_same_shape(SCORES, TARGETS[:4])
    with pytest.raises(ValueError, match=r"Scores have shape \(5,\)"):
        require_same_shape(SCORES[:, 0], TARGETS[:, 0])


def test_roc_auc__counts_ties_half_and_needs_both_sides():
    scores = np.array([[0.5, 0.1], [0.5, 0.2], [0.4, 0.3], [0.6, 0.4]], np.float32)
    targets = np.array([[1, 1], [0, 1], [0, 1], [0, -1]], np.int8)
    assert roc_auc(scores, targets).to_list() == [pytest.approx(1.5 / 3), None]


def test_ranked_labels__chunks_and_memory_maps_change_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    scores = rng.random((50, 7), dtype=np.float32)
    targets = rng.integers(-1, 2, (50, 7)).astype(np.int8)
    whole = average_precision(scores, targets).values
    monkeypatch.setattr(ranking_module, "_CHUNK_BYTES", 600)
    mapped = np.memmap(tmp_path / "scores", np.float32, "w+", shape=scores.shape)
    mapped[:] = scores
    assert np.array_equal(average_precision(mapped, targets).values, whole)


def test_ranked_label__threshold_is_between_the_positive_and_the_next_lower_score():
    (ranked,) = ranked_labels(SCORES, TARGETS)
    assert ranked.threshold_at(1) == pytest.approx(0.65)  # the positive at 0.7 over the negative at 0.6
    assert ranked.threshold_at(0) == pytest.approx(0.25)  # nothing lower: midway to 0


def test_ranked_label__threshold_separates_neighbouring_floats():
    high = np.float32(0.3)
    low = np.nextafter(high, np.float32(0))
    (ranked,) = ranked_labels(column([low, high]), column([0, 1], np.int8))
    threshold = ranked.threshold_at(0)
    assert float(low) < threshold <= float(high)


def test_ranked_label__threshold_of_a_positive_at_zero_is_zero():
    (ranked,) = ranked_labels(column([0.0, 0.5]), column([1, 0], np.int8))
    assert ranked.threshold_at(0) == 0.0


def test_ranked_label__best_f1_equals_trying_every_threshold():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = column(rng.integers(0, 8, 12) / 8)
        targets = column(rng.random(12) < 0.4, np.int8)
        if not targets.any():
            continue
        (ranked,) = ranked_labels(scores, targets)
        threshold, f1 = ranked.best_f1()
        tried = [
            count_decisions(scores, targets, thresholds=t).f1().values[0] for t in np.arange(0, 1, 1 / 16)
        ]
        assert f1 == pytest.approx(max(tried))
        assert count_decisions(scores, targets, thresholds=threshold).f1().values[0] == pytest.approx(f1)


DECISION_SCORES = np.array([[0.9, 0.6, 0.2], [0.4, 0.7, 0.1], [0.8, 0.1, 0.3]], np.float32)
DECISION_TARGETS = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 0]], np.int8)


def test_count_decisions__at_thresholds_by_hand():
    counts = count_decisions(DECISION_SCORES, DECISION_TARGETS, thresholds=np.array([0.5, 0.65, 0.3]))
    assert counts.label_hits.tolist() == [1, 1, 0]
    assert counts.label_predicted.tolist() == [2, 1, 1 if float(np.float32(0.3)) >= 0.3 else 0]
    assert counts.label_positives.tolist() == [2, 1, 0]
    assert counts.image_hits.tolist() == [1, 1, 0]
    assert counts.image_positives.tolist() == [1, 2, 0]
    assert counts.recall().to_list() == [0.5, 1.0, None]


def test_count_decisions__a_score_at_its_threshold_is_predicted():
    scores = column([0.5, np.nextafter(np.float32(0.5), np.float32(0))])
    counts = count_decisions(scores, column([1, 1], np.int8), thresholds=0.5)
    assert counts.image_predicted.tolist() == [1, 0]


def test_count_decisions__unknown_takes_a_place_in_top_k_but_does_not_count():
    scores = np.array([[0.9, 0.8, 0.1]], np.float32)
    counts = count_decisions(scores, np.array([[-1, 1, 1]], np.int8), top_k=1)
    assert counts.label_predicted.tolist() == [0, 0, 0]
    assert counts.label_positives.tolist() == [0, 1, 1]


def test_count_decisions__top_k_ties_go_to_the_first_labels():
    scores = np.array([[0.2, 0.5, 0.5, 0.5, 0.9]], np.float32)
    targets = np.ones((1, 5), np.int8)
    assert count_decisions(scores, targets, top_k=3).label_predicted.tolist() == [0, 1, 1, 0, 1]
    assert count_decisions(scores, targets, top_k=9).label_predicted.tolist() == [1] * 5


def test_count_decisions__top_k_and_threshold_both_hold():
    counts = count_decisions(DECISION_SCORES, DECISION_TARGETS.clip(0), thresholds=0.5, top_k=1)
    assert counts.label_predicted.tolist() == [2, 1, 0]


def test_count_decisions__refuses_what_it_cannot_decide():
    with pytest.raises(ValueError, match="need thresholds or top_k"):
        count_decisions(SCORES, TARGETS)
    with pytest.raises(ValueError, match="top_k is 0"):
        count_decisions(SCORES, TARGETS, top_k=0)
    with pytest.raises(ValueError, match=r"Scores of images 0\.\.1 contain NaN"):
        count_decisions(column([0.1, math.nan]), column([0, 1], np.int8), thresholds=0.5)


def test_decision_metrics__cf1_is_not_the_mean_of_the_labels_f1():
    counts = count_decisions(DECISION_SCORES, DECISION_TARGETS, thresholds=0.5)
    metrics = decision_metrics(counts).to_dict()
    assert metrics["CP"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert metrics["CR"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["CF1"] == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    assert metrics["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["OP"] == pytest.approx(2 / 4)
    assert metrics["OR"] == pytest.approx(2 / 3)
    assert metrics["OF1"] == pytest.approx(4 / 7)
    assert metrics["sample_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_decision_metrics__are_none_without_positives_and_zero_without_predictions():
    nothing = decision_metrics(count_decisions(SCORES, np.zeros_like(TARGETS), thresholds=0.5))
    assert set(nothing.to_dict().values()) == {None}
    silent = decision_metrics(count_decisions(SCORES, TARGETS, thresholds=1.0))
    assert set(silent.to_dict().values()) == {0.0}


def test_calibration_error__by_hand():
    scores = column([0.1, 0.12, 0.9, 0.95])  # bins 1, 1, 13, 14
    targets = column([0, 1, 1, 0], np.int8)
    expected = (2 * abs(0.11 - 0.5) + abs(0.9 - 1) + abs(0.95 - 0)) / 4
    assert calibration_error(scores, targets) == pytest.approx(expected)


def test_calibration_error__is_none_without_known_targets_and_ignores_unknown():
    assert calibration_error(SCORES, np.full_like(TARGETS, -1)) is None
    scores, targets = np.append(SCORES, 0.3).reshape(-1, 1), np.append(TARGETS, np.int8(-1)).reshape(-1, 1)
    assert calibration_error(scores, targets) == pytest.approx(calibration_error(SCORES, TARGETS))


def test_calibration_error__refuses_logits():
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        calibration_error(4 * SCORES, TARGETS)


def test_calibration_bins__undo_a_temperature():
    logits = np.random.default_rng(0).normal(0, 4, (500, 2))
    targets = (np.random.default_rng(1).random((500, 2)) < 0.3).astype(np.int8)
    bins = CalibrationBins(temperature=2.5)
    for ranked in ranked_labels(1 / (1 + np.exp(-logits / 2.5)), targets):
        bins.add(ranked)
    assert bins.error() == pytest.approx(calibration_error(1 / (1 + np.exp(-logits)), targets))


def test_row_blocks__cover_every_row_once_in_bounded_blocks():
    blocks = list(row_blocks(1000, 10_000))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(1000))
    assert max(block.stop - block.start for block in blocks) * 10_000 <= 1 << 22
    assert list(row_blocks(2, 1 << 30)) == [slice(0, 1), slice(1, 2)]
