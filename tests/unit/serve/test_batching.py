import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from query2label.serve.batching import Batcher, Scored


class Recorder:
    """Scores an image with its mean; waits for `gate`; remembers its batches."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[tuple[list[float], bool]] = []

    def __call__(self, images: np.ndarray, attention: bool) -> list[Scored]:
        self.started.set()
        assert self.gate.wait(30)
        self.batches.append((images.mean(axis=(1, 2, 3)).tolist(), attention))
        if (images == 13).any():
            raise RuntimeError("thirteen")
        return [Scored(image.mean(axis=(1, 2)), None) for image in images]


def picture(value: float) -> np.ndarray:
    return np.full((3, 2, 2), value, np.float32)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def batcher(recorder: Recorder) -> Iterator[Batcher]:
    batcher = Batcher(recorder, max_batch=4)
    yield batcher
    recorder.gate.set()
    batcher.close()


def first_in_work(batcher: Batcher, recorder: Recorder) -> Callable[[], None]:
    """Puts an image into work, so that what is submitted next waits; gives what lets all go on."""
    first = batcher.submit(picture(0))
    assert recorder.started.wait(30)

    def release() -> None:
        recorder.gate.set()
        first.result(30)

    return release


def test_batcher__computes_together_what_waits_up_to_its_bound(batcher: Batcher, recorder: Recorder) -> None:
    release = first_in_work(batcher, recorder)
    futures = [batcher.submit(picture(value)) for value in range(1, 7)]
    release()
    assert [future.result(30).scores.tolist() for future in futures] == [[v] * 3 for v in range(1, 7)]
    assert [values for values, _ in recorder.batches] == [[0], [1, 2, 3, 4], [5, 6]]


def test_batcher__never_mixes_images_with_and_without_attention(batcher: Batcher, recorder: Recorder) -> None:
    release = first_in_work(batcher, recorder)
    futures = [batcher.submit(picture(value), attention=value in {2, 4}) for value in range(1, 6)]
    release()
    assert [float(future.result(30).scores[0]) for future in futures] == [1, 2, 3, 4, 5]
    assert recorder.batches == [([0], False), ([1, 3, 5], False), ([2, 4], True)]


def test_batcher__does_not_compute_what_was_cancelled(batcher: Batcher, recorder: Recorder) -> None:
    release = first_in_work(batcher, recorder)
    futures = [batcher.submit(picture(value)) for value in (1, 2, 3)]
    assert futures[0].cancel()
    assert futures[2].cancel()
    release()
    futures[1].result(30)
    assert [values for values, _ in recorder.batches] == [[0], [2]]


def test_batcher__tells_an_error_and_goes_on(batcher: Batcher, recorder: Recorder) -> None:
    recorder.gate.set()
    with pytest.raises(RuntimeError, match="thirteen"):
        batcher.submit(picture(13)).result(30)
    assert float(batcher.submit(picture(1)).result(30).scores[0]) == 1


def test_batcher__close_finishes_what_waits(recorder: Recorder) -> None:
    batcher = Batcher(recorder, max_batch=2)
    recorder.gate.set()
    futures = [batcher.submit(picture(value)) for value in range(5)]
    batcher.close()
    assert all(future.done() for future in futures)


def test_batcher__several_threads_share_out_what_waits() -> None:
    both = threading.Barrier(2)

    def compute(images: np.ndarray, attention: bool) -> list[Scored]:
        both.wait(30)  # only where two compute at the same time
        return [Scored(image.mean(axis=(1, 2)), None) for image in images]

    batcher = Batcher(compute, max_batch=8, num_threads=2)
    futures = [batcher.submit(picture(value)) for value in (1, 2)]
    assert [future.result(30).scores.tolist() for future in futures] == [[1] * 3, [2] * 3]
    batcher.close()
