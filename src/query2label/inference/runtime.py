"""What computes logits: the one thing that a predictor needs of a model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


@runtime_checkable
class Runtime(Protocol):
    """Anything that turns normalized images into logits."""

    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits (before the sigmoid) of normalized float32 images; any batch size from 1 on."""
        ...
