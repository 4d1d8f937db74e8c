"""Self-confidence and suspected label errors against cleanlab, an independent implementation."""

import numpy as np
import pytest
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

from query2label.report.label_errors import self_confidence, suspected_errors


def table(num_images=400, num_labels=6, *, seed=0):
    """Scores that tell most labels, and targets of which some were flipped."""
    rng = np.random.default_rng(seed)
    truth = rng.random((num_images, num_labels)) < np.linspace(0.05, 0.6, num_labels)
    logits = rng.normal(size=truth.shape) + np.where(truth, 2.5, -2.5)
    flipped = rng.random(truth.shape) < 0.04
    return (1 / (1 + np.exp(-logits))).astype(np.float32), (truth ^ flipped).astype(np.int8)


def as_lists(targets):
    return [np.flatnonzero(row).tolist() for row in targets]


def test_self_confidence__is_cleanlabs():
    scores, targets = table()
    expected = np.array(get_label_quality_scores_per_class(as_lists(targets), scores.astype(np.float64)))
    np.testing.assert_allclose(self_confidence(scores, targets), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_suspected_errors__are_those_of_confident_learning(seed):
    scores, targets = table(seed=seed)
    expected = find_multilabel_issues_per_class(
        as_lists(targets), scores.astype(np.float64), filter_by="confident_learning", n_jobs=1
    )
    found = suspected_errors(scores, targets)
    assert {(error.row, error.label) for error in found} == set(zip(*np.nonzero(expected), strict=True))
    assert len(found) > 20


def test_suspected_errors__the_least_confident_come_first_with_what_was_given():
    scores, targets = table()
    found = suspected_errors(scores, targets)
    surety = self_confidence(scores, targets)
    assert [error.self_confidence for error in found] == sorted(error.self_confidence for error in found)
    for error in found:
        assert error.is_present == (targets[error.row, error.label] == 1)
        assert error.score == scores[error.row, error.label]
        assert error.self_confidence == pytest.approx(float(surety[error.row, error.label]))


def test_suspected_errors__unknown_labels_and_labels_of_all_or_no_images_are_none():
    scores, targets = table()
    targets[:, 0], targets[:, 1] = 0, 1
    before = {(error.row, error.label) for error in suspected_errors(scores, targets)}
    assert not {label for _, label in before} & {0, 1}
    row, label = next(iter(before))
    targets[row, label] = -1
    assert (row, label) not in {(error.row, error.label) for error in suspected_errors(scores, targets)}
    assert self_confidence(scores, targets)[row, label] == 1
