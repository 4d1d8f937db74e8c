"""The shapes that all metrics take, and how they are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float, Int

Scores = Float[np.ndarray, "n K"]
Targets = Int[np.ndarray, "n K"]

_BLOCK_CELLS: Final = 1 << 22


def require_same_shape(scores: np.ndarray, targets: np.ndarray) -> None:
    """Refuses scores and targets that do not belong together.

    Raises:
        ValueError: If they are not two tables of the same shape.
    """
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(
            f"Scores have shape {scores.shape} and targets {targets.shape}: both must be (images, labels)."
        )


def row_blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices of consecutive rows that hold a bounded number of cells each."""
    step = max(1, _BLOCK_CELLS // max(num_columns, 1))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
