"""Decoding, computing and whatever the caller does with the results, all at once, in order and in bounds.

Decoders and runtimes let other threads run while they work (Pillow, ONNX Runtime, OpenVINO and torch release
the interpreter's lock), so threads are enough: nothing is copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

AHEAD: Final = 2
"""Batches that are decoded or computed while the caller has another one in hand."""

_Key = TypeVar("_Key")
_Source = TypeVar("_Source")
Loaded = np.ndarray | str
"""A normalized image (3, H, W), or why there is none."""


def overlapped(
    batches: Iterable[tuple[_Key, Sequence[_Source]]],
    *,
    load: Callable[[_Source], Loaded],
    compute: Callable[[np.ndarray], np.ndarray],
    decoders: int,
) -> Iterator[tuple[_Key, Sequence[_Source], list[str | None], np.ndarray]]:
    """Logits of batches of images, in their order, whatever is ready first.

    Args:
        batches: Each with something to know it by; they are taken in the caller's thread, `AHEAD` in advance.
        load: What a source becomes; called in several threads.
        compute: Logits (B, K) of images (B, 3, H, W); called in one thread.
        decoders: Threads that load.

    Yields:
        The key, the sources, per source why there is no image (None where there is one), and the logits of
        the images that there are, in their order. What `load` or `compute` raise is raised in its turn.
    """
    rest = iter(batches)
    waiting: deque[tuple[_Key, Sequence[_Source], Future[tuple[list[str | None], np.ndarray]]]] = deque()
    with ThreadPoolExecutor(decoders, "decode") as decoding, ThreadPoolExecutor(1, "compute") as computing:
        try:
            while True:
                while len(waiting) <= AHEAD and (batch := next(rest, None)) is not None:
                    images = [decoding.submit(load, source) for source in batch[1]]
                    waiting.append((*batch, computing.submit(_computed, images, compute)))
                if not waiting:
                    return
                key, sources, future = waiting.popleft()
                yield key, sources, *future.result()
        finally:
            decoding.shutdown(wait=False, cancel_futures=True)
            computing.shutdown(wait=False, cancel_futures=True)


def computed(
    loaded: Sequence[Loaded], compute: Callable[[np.ndarray], np.ndarray]
) -> tuple[list[str | None], np.ndarray]:
    """Per image why there is none (None where there is one), and the logits of those that there are."""
    images = [image for image in loaded if not isinstance(image, str)]
    errors = [image if isinstance(image, str) else None for image in loaded]
    return errors, compute(np.stack(images)) if images else np.empty((0, 0), dtype=np.float32)


def _computed(
    images: Sequence[Future[Loaded]], compute: Callable[[np.ndarray], np.ndarray]
) -> tuple[list[str | None], np.ndarray]:
    return computed([image.result() for image in images], compute)
