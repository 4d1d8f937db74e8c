"""What computes logits: the one thing that a predictor needs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from query2label.bundle import Bundle
from query2label.bundle.artefact import Artefact


@runtime_checkable
class Runtime(Protocol):
    """Anything that turns normalized images into logits."""

    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits (before the sigmoid) of normalized float32 images; any batch size from 1 on."""
        ...


@runtime_checkable
class AttentiveRuntime(Runtime, Protocol):
    """A runtime that can say where the model looked, if the model can."""

    @property
    def has_attention(self) -> bool:
        """Whether this model can."""
        ...

    def with_attention(
        self, images: Float[np.ndarray, "B 3 H W"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B L M K h w"]]:
        """Logits, and the cross-attention of each decoder layer and head; each map sums to 1 over h and w.

        Only where `has_attention`.
        """
        ...


@runtime_checkable
class GradientRuntime(Runtime, Protocol):
    """A runtime that can differentiate its model."""

    def grad_cam(
        self, images: Float[np.ndarray, "B 3 H W"], label_indices: Sequence[int]
    ) -> Float[np.ndarray, "B k h w"]:
        """How much each cell of the feature map raises the logit of each label; 0 or more."""
        ...


@runtime_checkable
class ExportedRuntime(Runtime, Protocol):
    """A runtime of an exported file, which knows what it is."""

    @property
    def bundle(self) -> Bundle:
        """What the model is: labels, preprocessing, thresholds, calibration."""
        ...

    @property
    def artefact(self) -> Artefact:
        """How it was exported."""
        ...
