"""Randomness that is counted, not carried: every draw is a function of a seed and of where it is used.

Nothing has to be saved to go on exactly after an interruption, and the number of workers cannot matter.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int64


def derive_seed(*values: int | str) -> int:
    """A seed in [0, 2**63) that depends on all values, their order and their types; the same everywhere."""
    text = "\0".join(f"{type(value).__name__}{len(str(value))}:{value}" for value in values)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*values: int | str) -> np.random.Generator:
    """A generator that is seeded by `derive_seed` of the values."""
    return np.random.Generator(np.random.PCG64(derive_seed(*values)))


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """The order in which an epoch visits the samples: a permutation of 0..num_samples-1.

    It sorts the raw stream of PCG64, which NumPy promises never to change (unlike `Generator.permutation`).
    """
    raw = np.random.PCG64(derive_seed("epoch order", seed, epoch)).random_raw(num_samples)
    return np.argsort(raw, kind="stable").astype(np.int64)
