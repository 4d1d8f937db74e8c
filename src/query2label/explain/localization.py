"""Whether a map lies where the labelled thing is, judged by the boxes of people who marked it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from query2label.data.samples import Box


def inside_boxes(boxes: Iterable[Box], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels of an image of this (height, width) whose centre lies in a box."""
    inside = np.zeros(size, dtype=np.bool_)
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    for box in boxes:
        down = (rows >= box.top) & (rows < box.top + box.height)
        across = (columns >= box.left) & (columns < box.left + box.width)
        inside |= down[:, None] & across[None, :]
    return inside


def pointing_game(heat: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> float:
    """Whether the highest place of a map lies inside: 1 or 0; of equally high places, the share that does.

    A map that is the same everywhere so gets the share of the image that is inside.

    Source:
        Zhang et al. (2016), arXiv:1608.00507, whose tolerance of 15 pixels is left away.
    """
    return float(inside[heat == heat.max()].mean())


def energy_inside(heat: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> float:
    """The share of a map's sum that lies inside, in [0, 1]; 0 for a map of zeros.

    Source:
        Wang et al. (2020), arXiv:1910.01279 (their energy-based pointing game).
    """
    total = float(heat.sum(dtype=np.float64))
    return float(heat[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0
