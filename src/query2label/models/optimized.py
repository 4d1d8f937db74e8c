"""A trained model rearranged for inference: the same logits, sooner."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from query2label.bundle import Bundle
from query2label.errors import BundleError, ConfigError
from query2label.models.backbone import SpatialBackbone
from query2label.models.folding import fold_batch_norms
from query2label.models.heads import Head
from query2label.models.optimized_heads import optimized_head
from query2label.models.query2label import Query2Label


class OptimizedQuery2Label(Query2Label):
    """`Query2Label` for inference only: it is not trained or saved any more. See `optimize`."""

    def __init__(self, backbone: SpatialBackbone, head: Head, *, bundle: Bundle | None) -> None:
        super().__init__(backbone, head, bundle=bundle)
        self.requires_grad_(False)
        self.eval()

    def forward_features(self, images: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C H W"]:
        """The backbone's feature maps, with the channels last in memory."""
        return super().forward_features(images.contiguous(memory_format=torch.channels_last))

    def optimize_for_inference(
        self, *, image_size: tuple[int, int] | None = None, any_size: bool = False
    ) -> OptimizedQuery2Label:
        """The model itself, whatever the size."""
        return self

    def train(self, mode: bool = True) -> OptimizedQuery2Label:
        """Evaluation mode.

        Raises:
            ConfigError: If it is to be trained.
        """
        if mode:
            raise ConfigError("An optimized model cannot be trained: train the one that it was made from.")
        super().train(False)
        return self

    def save_pretrained(self, path: str | Path) -> None:
        """Refuses: these weights fit no `Query2Label`.

        Raises:
            BundleError: Always.
        """
        raise BundleError(
            f"An optimized model cannot be saved as a bundle ({path}): save the one it was made from, or "
            "export it (`q2l export`)."
        )


def optimize(model: Query2Label, *, image_size: tuple[int, int], any_size: bool) -> OptimizedQuery2Label:
    """A copy of `model` for inference; `Query2Label.optimize_for_inference` says what it is.

    Args:
        model: It stays as it is.
        image_size: (height, width) of the images to come.
        any_size: Keep nothing for this one size, so that a trace of the model is good for all.
    """
    backbone = copy.deepcopy(model.backbone).eval().requires_grad_(False)
    height, width = fold_batch_norms(backbone, image_size)[2:]
    trained = copy.deepcopy(model.head).eval() if model.head.training else model.head
    head = optimized_head(trained, (height, width), any_shape=any_size)
    optimized = OptimizedQuery2Label(backbone, head, bundle=model.bundle)
    return optimized.to(memory_format=torch.channels_last)
