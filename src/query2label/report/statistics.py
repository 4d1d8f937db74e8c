"""What a data set consists of: labels per image, images per label, and which labels come together."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from query2label.data.samples import Dataset
from query2label.metrics.arrays import Targets

MAX_TOGETHER: Final = 40
"""Most labels in a table of which come together: the most frequent ones."""


def dataset_statistics(dataset: Dataset, rows: np.ndarray, targets: Targets) -> dict[str, Any]:
    """Counts for the page.

    Args:
        dataset: Where the samples are.
        rows: Which sample each row of `targets` is.
        targets: 1, 0, or below 0 where unknown.
    """
    positive = targets == 1
    per_image = np.bincount(positive.sum(axis=1)).tolist() if len(targets) else []
    boxes = [len(dataset.samples[row].boxes) for row in rows.tolist()]
    return {
        "num_images": len(targets),
        "num_positives": int(positive.sum()),
        "num_unknown": int((targets < 0).sum()),
        "num_boxes": sum(boxes),
        "images_by_count": per_image,
        "support": positive.sum(axis=0).tolist(),
        "unknown": (targets < 0).sum(axis=0).tolist(),
        "together": _together(positive),
    }


def _together(positive: np.ndarray) -> dict[str, Any]:
    """How many images show both of two labels, for the most frequent ones; the diagonal is their support."""
    support = positive.sum(axis=0)
    shown = np.argsort(-support, kind="stable")[:MAX_TOGETHER]
    shown = shown[support[shown] > 0]
    columns = positive[:, shown].astype(np.float32)  # exact to 16 million images
    return {"labels": shown.tolist(), "counts": (columns.T @ columns).astype(np.int64).tolist()}
