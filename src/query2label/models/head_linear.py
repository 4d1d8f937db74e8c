"""The simplest head, to compare with: global average pooling and one linear layer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.heads import Head, reset_output, rows


class LinearHead(Head):
    """Average over the feature map, then one weight row per label.

    Args:
        num_channels: Channels C of the feature map.
        num_labels: Labels K.
        dropout: Of the pooled channels, in training.
    """

    def __init__(self, num_channels: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output_weight = nn.Parameter(torch.empty(num_labels, num_channels))
        self.output_bias = nn.Parameter(torch.empty(num_labels))
        reset_output(self.output_weight, self.output_bias)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """The average feature vector (B, C)."""
        return (self.dropout(features.mean(dim=(2, 3))),)

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all."""
        (pooled,) = encoded
        weight, bias = rows(self.output_weight, label_indices), rows(self.output_bias, label_indices)
        return functional.linear(pooled, weight, bias)
