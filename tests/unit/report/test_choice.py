"""Which images get a picture."""

import numpy as np

from query2label.report.choice import chosen_pictures, worst_rows


def test_worst_rows__are_the_worst_mistakes_at_any_threshold():
    rng = np.random.default_rng(0)
    scores = rng.random((300, 4), dtype=np.float32)
    targets = rng.integers(-1, 2, scores.shape).astype(np.int8)
    for label, rows in enumerate(worst_rows(scores, targets)):
        assert len(rows) == 24
        score, target = scores[:, label], targets[:, label]
        for threshold in (0.2, 0.5, 0.9):
            missed = [row for row in np.argsort(score) if target[row] == 1 and score[row] < threshold]
            false = [row for row in np.argsort(-score) if target[row] == 0 and score[row] >= threshold]
            assert set(missed[:12]) | set(false[:12]) <= set(rows)


def test_worst_rows__are_fewer_for_many_labels_and_never_unknown():
    targets = np.zeros((40, 500), dtype=np.int8)
    targets[::2] = 1
    targets[:4] = -1
    found = worst_rows(np.random.default_rng(0).random(targets.shape, dtype=np.float32), targets)
    assert {len(rows) for rows in found} == {2}
    assert min(row for rows in found for row in rows) >= 4


def test_chosen_pictures__take_turns_up_to_the_limit_and_name_all_labels_of_a_picture():
    first = [[5, 6, 7], [8, 5], []]
    assert chosen_pictures([first]) == {5: (0, 1), 6: (0,), 7: (0,), 8: (1,)}
    assert chosen_pictures([first, [[9], [], []]], [[(1, 2), (5, 2)]], limit=3) == {
        1: (2,),
        5: (0, 2, 1),
        8: (1,),
    }
    assert list(chosen_pictures([first], limit=1)) == [5]
