"""Scores as a page keeps them: decisions equal to those of float32 comparison at every threshold."""

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query2label.bundle import predicted
from query2label.report.embedded import (
    STEPS,
    encoded_bytes,
    encoded_scores,
    encoded_targets,
    score_steps,
    threshold_steps,
)

unit = st.floats(0, 1, width=32)


@given(st.lists(unit, min_size=1, max_size=30), unit, st.integers(0, STEPS))
@settings(max_examples=300, deadline=None)
def test_score_steps__decide_as_the_scores_at_the_own_threshold_and_at_every_step(scores, threshold, step):
    column = np.array(scores, dtype=np.float32)[:, None]
    own = np.array([threshold])
    kept = score_steps(column, own)
    np.testing.assert_array_equal(kept >= threshold_steps(own), predicted(column, own))
    if step != threshold_steps(own)[0]:
        np.testing.assert_array_equal(kept >= step, predicted(column, np.array([step / STEPS])))


def test_score_steps__decide_at_the_own_threshold_though_scores_lie_within_a_step_of_it():
    threshold = np.float32(0.3)
    column = np.array([np.nextafter(threshold, np.float32(0)), threshold], dtype=np.float32)[:, None]
    kept = score_steps(column, np.array([threshold]))
    assert (kept >= threshold_steps(np.array([threshold]))).tolist() == [[False], [True]]
    assert score_steps(np.ones((1, 1), dtype=np.float32), np.array([0.5])) == STEPS


def test_encoded_scores__are_two_bytes_each_label_by_label():
    rng = np.random.default_rng(0)
    scores, thresholds = rng.random((7, 3), dtype=np.float32), np.array([0.2, 0.5, 0.9])
    kept = np.frombuffer(base64.b64decode(encoded_scores(scores, thresholds)), dtype="<u2").reshape(3, 7)
    np.testing.assert_array_equal(kept.T, score_steps(scores, thresholds))
    assert np.abs(kept.T / STEPS - scores).max() <= 1 / STEPS


def test_encoded_targets__are_two_bits_each():
    targets = np.random.default_rng(0).integers(-1, 2, (9, 5)).astype(np.int8)
    encoded = encoded_targets(targets)
    for name, table in (("positive", targets == 1), ("known", targets >= 0)):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(encoded[name]), np.uint8), bitorder="little")
        np.testing.assert_array_equal(bits[:45].reshape(5, 9).T, table)
        assert len(base64.b64decode(encoded[name])) == 6


def test_encoded_bytes__are_rounded():
    values = np.array([[0.0, 1.0, 0.5]])
    assert list(base64.b64decode(encoded_bytes(values))) == [0, 255, pytest.approx(127.5, abs=0.5)]
