"""How large the objects of a label are in an image."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Int, Int8, Int64

from query2label.data.samples import Dataset

SMALL_BELOW: Final = 32**2
MEDIUM_BELOW: Final = 96**2


def object_sizes(dataset: Dataset, indices: Int64[np.ndarray, " n"]) -> Int8[np.ndarray, "n K"] | None:
    """0, 1 or 2 (small, medium, large) by the label's largest box in the image, -1 without a box.

    The bounds are COCO's, 32^2 and 96^2 square pixels of the area that the data state (a mask's where there
    is one), in the image as it is stored.

    Args:
        dataset: With boxes, perhaps.
        indices: The samples wanted, in order.

    Returns:
        The sizes, None where no sample has a box.
    """
    sizes = np.full((len(indices), len(dataset.labels)), -1, dtype=np.int8)
    for row, index in enumerate(indices.tolist()):
        for box in dataset.samples[index].boxes:
            size = 0 if box.area < SMALL_BELOW else 1 if box.area < MEDIUM_BELOW else 2
            sizes[row, box.label] = max(sizes[row, box.label], size)
    return sizes if (sizes >= 0).any() else None


def targets_of_size(
    targets: Int[np.ndarray, " *any"], sizes: Int8[np.ndarray, " *any"], size: int
) -> Int[np.ndarray, " *any"]:
    """The targets, of which positives of another size than 0, 1 or 2 are unknown.

    Args:
        targets: 1, 0, or below 0 where unknown.
        sizes: In the same shape, as `object_sizes` gives them.
        size: Which of them to keep.
    """
    return np.where((targets == 1) & (sizes != size), -1, targets)
