"""Dynamic batching: whatever waits when the model is free is computed together."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True)
class Scored:
    """What the model gave for one image."""

    scores: Float[np.ndarray, " K"]
    maps: Float32[np.ndarray, "K h w"] | None
    """Attention by label, where it was asked for."""


Compute = Callable[[Float[np.ndarray, "B 3 H W"], bool], Sequence[Scored]]
"""Scores a batch; the second argument says whether attention is wanted."""


@dataclass(frozen=True)
class _Job:
    image: Float32[np.ndarray, "3 H W"]
    attention: bool
    future: Future[Scored] = field(default_factory=Future)


class Batcher:
    """Threads that compute what waits, as many images at once as there are, up to a bound.

    None ever waits for a batch to fill: an image that comes alone is computed alone, at once, and those that
    come meanwhile are the next batches, shared out evenly. How much may wait is for the caller to bound.

    Args:
        compute: What scores a batch.
        max_batch: Images that are computed at once, at most.
        num_threads: Batches that are computed at the same time, which `compute` must allow.
    """

    def __init__(self, compute: Compute, *, max_batch: int, num_threads: int = 1) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name="q2l-batcher", daemon=True) for _ in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, image: Float32[np.ndarray, "3 H W"], *, attention: bool = False) -> Future[Scored]:
        """The scores to come; a future that is cancelled before its turn costs nothing."""
        job = _Job(image, attention)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Computes what waits, and ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while jobs := self._next_batch():
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if not wanted:
                continue
            try:
                rows = self._compute(np.stack([job.image for job in wanted]), wanted[0].attention)
            except Exception as error:  # noqa: BLE001  # whoever waits is told, and the next batch may go well
                for job in wanted:
                    job.future.set_exception(error)
            else:
                for job, row in zip(wanted, rows, strict=True):
                    job.future.set_result(row)

    def _next_batch(self) -> list[_Job]:
        """The first that waits and those after it that are of its kind; none when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            most = min(self._max_batch, math.ceil(len(self._waiting) / len(self._threads)))
            chosen: list[_Job] = []
            left: deque[_Job] = deque()
            for job in self._waiting:
                fits = len(chosen) < most and (not chosen or job.attention == chosen[0].attention)
                (chosen if fits else left).append(job)
            self._waiting = left
            return chosen
