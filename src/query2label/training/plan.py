"""Which images make up each step: a function of seed, epoch, and the number of processes, nothing else."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from query2label.data.randomness import epoch_order

Indices = npt.NDArray[np.int64]


def num_batches(num_images: int, *, batch_size: int) -> int:
    """Steps of an epoch."""
    return math.ceil(num_images / batch_size)


def smallest_batch(num_images: int, *, batch_size: int) -> int:
    """Size of the smallest batch of an epoch; batches differ by one image at most."""
    return num_images // num_batches(num_images, batch_size=batch_size)


def epoch_batches(num_images: int, *, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """Image indices of each step of an epoch: every image exactly once, in batches of equal size +-1."""
    order = epoch_order(num_images, seed=seed, epoch=epoch)
    return list(np.array_split(order, num_batches(num_images, batch_size=batch_size)))


def rank_share(batch: Indices, *, rank: int, world_size: int) -> Indices:
    """The part of a batch that one process works on; the parts differ by one image at most."""
    return np.array_split(batch, world_size)[rank]


def micro_batches(size: int, *, accumulate: int) -> list[slice]:
    """Cuts a process's share of `size` images into at most `accumulate` non-empty parts of equal size +-1."""
    parts = min(accumulate, size)
    return [slice(part * size // parts, (part + 1) * size // parts) for part in range(parts)]
