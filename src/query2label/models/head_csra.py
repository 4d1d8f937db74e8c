"""Class-specific residual attention, to compare with: the average score plus where the label is strongest."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.heads import Head, reset_output, rows

TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, 99.0),
    4: (1.0, 2.0, 4.0, 99.0),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, 99.0),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 99.0),
}
"""Softmax temperatures by number of heads; 99 stands for the maximum."""


class CsraHead(Head):
    """Scores every place with a unit-length row per label; average + lambda * attention-weighted score.

    Args:
        num_channels: Channels C of the feature map.
        num_labels: Labels K.
        num_heads: 1, 2, 4, 6 or 8; each has its own rows and temperature, and their logits are added.
        residual_weight: The paper's lambda.

    Unlike the paper, logits have a bias, so that they can start at the label prior; at 0 it is the paper's.

    Source:
        Zhu & Wu (2021), arXiv:2108.02456.
    """

    def __init__(
        self, num_channels: int, num_labels: int, *, num_heads: int = 1, residual_weight: float = 0.1
    ) -> None:
        super().__init__()
        self.temperatures = TEMPERATURES[num_heads]
        self.residual_weight = residual_weight
        self.output_weight = nn.Parameter(torch.empty(num_labels, num_heads, num_channels))
        self.output_bias = nn.Parameter(torch.empty(num_labels))
        reset_output(self.output_weight, self.output_bias)
        nn.init.zeros_(self.output_bias)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """The feature map as (B, C, N)."""
        return (features.flatten(2),)

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all."""
        (tokens,) = encoded
        weight = functional.normalize(rows(self.output_weight, label_indices), dim=-1)
        logits = rows(self.output_bias, label_indices)
        for head, temperature in enumerate(self.temperatures):
            logits = logits + self._residual_attention(weight[:, head] @ tokens, temperature)
        return logits

    def _residual_attention(self, scores: Float[Tensor, "B k N"], temperature: float) -> Float[Tensor, "B k"]:
        if temperature == 99:
            attended = scores.amax(dim=-1)
        else:
            attended = ((scores * temperature).softmax(dim=-1) * scores).sum(dim=-1)
        return scores.mean(dim=-1) + self.residual_weight * attended
