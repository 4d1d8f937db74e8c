"""The main components of feature maps, for heads that start from what the features already tell."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_DEVIATION = 1e-2
"""Channels that vary less count as if they varied so much: they are noise, not signal."""


def main_components(
    batches: Iterable[Float[Tensor, "_ C H W"]], num_components: int
) -> tuple[Float[Tensor, "D C"], Float[Tensor, " D"]]:
    """A projection of feature vectors onto the D directions in which images differ most.

    Each channel is standardized over all positions of all images; the directions are the principal
    components of the standardized features, averaged over each image. With fewer images than D, the remaining
    directions are some that are orthogonal to the others.

    Args:
        batches: Feature maps of training images.
        num_components: D, at most C.

    Returns:
        Weight and bias: `weight @ features + bias` has mean 0.
    """
    pooled, sums, squares, count = [], torch.zeros(()), torch.zeros(()), 0
    for features in batches:
        values = features.double().cpu()
        pooled.append(values.mean(dim=(2, 3)))
        sums = sums + values.sum(dim=(0, 2, 3))
        squares = squares + values.square().sum(dim=(0, 2, 3))
        count += values.numel() // values.shape[1]
    mean = sums / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(SMALLEST_DEVIATION)
    standardized = (torch.cat(pooled) - mean) / deviation
    directions = torch.linalg.eigh(standardized.T @ standardized).eigenvectors.T.flip(0)[:num_components]
    weight = directions / deviation
    return weight.float(), (-weight @ mean).float()
