import numpy as np

from query2label.training.examples import typical_images


def test_typical_images__are_those_of_median_score_of_the_most_shown_labels() -> None:
    targets = np.zeros((9, 8), dtype=np.int8)
    targets[:5, 6] = 1  # shown most
    targets[5:8, 2] = 1
    targets[8, 3] = 1
    targets[:, 0] = -1
    scores = np.zeros((9, 8), dtype=np.float32)
    scores[:5, 6] = (0.9, 0.1, 0.8, 0.2, 0.7)
    scores[5:8, 2] = (0.3, 0.2, 0.4)
    assert typical_images(scores, targets) == [(6, 4), (2, 5), (3, 8)]


def test_typical_images__take_an_image_once_where_there_are_others() -> None:
    targets = np.array([[1, 1], [1, 1], [1, 1]], dtype=np.int8)
    scores = np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]], dtype=np.float32)
    chosen = typical_images(scores, targets)
    assert chosen[0] == (0, 1)
    assert chosen[1][0] == 1
    assert chosen[1][1] in {0, 2}
    assert typical_images(scores[:1], targets[:1]) == [(0, 0), (1, 0)]
