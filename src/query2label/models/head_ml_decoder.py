"""ML-Decoder, to compare with: a few group queries stand for many labels."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.heads import Head, reset_output
from query2label.models.layers import DecoderLayer


class MLDecoderHead(Head):
    """One decoder layer without self-attention over fixed group queries; each answers for some labels.

    Its cost hardly grows with the number of labels. Labels k * f ... (k + 1) * f - 1 belong to group k, where
    f = ceil(K / groups); the last group may be partly used, and groups without a label are not made.

    Args:
        num_channels: Channels C of the feature map.
        num_labels: Labels K.
        hidden_dim: Width D; a linear layer with ReLU always leads from C to D.
        feedforward_dim: Hidden width of the feed-forward part.
        num_groups: Most group queries; as many as labels where there are fewer labels.
        num_heads: Attention heads M (the authors: 8).
        dropout: In attention, feed-forward and residual branches.

    A width that does not fit is a `ConfigError`.

    Source:
        Ridnik et al. (2021), arXiv:2111.12933.
    """

    group_queries: Tensor

    def __init__(
        self,
        num_channels: int,
        num_labels: int,
        *,
        hidden_dim: int,
        feedforward_dim: int,
        num_groups: int = 100,
        num_heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        labels_per_group = math.ceil(num_labels / min(num_groups, num_labels))
        num_groups = math.ceil(num_labels / labels_per_group)
        self.input_projection = nn.Linear(num_channels, hidden_dim)
        self.register_buffer("group_queries", torch.randn(num_groups, hidden_dim))
        self.query_dropout = nn.Dropout(dropout)
        self.query_norm = nn.LayerNorm(hidden_dim)
        self.decoder = DecoderLayer(hidden_dim, num_heads, feedforward_dim, dropout=dropout)
        self.output_weight = nn.Parameter(torch.empty(num_groups, labels_per_group, hidden_dim))
        self.output_bias = nn.Parameter(torch.empty(num_labels))
        reset_output(self.output_weight, self.output_bias)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """The logits (B, K) of all labels: scoring fewer would hardly be cheaper."""
        memory = functional.relu(self.input_projection(features.flatten(2).transpose(1, 2)))
        queries = self.group_queries[None]
        targets = self.query_norm(queries + self.query_dropout(queries))
        groups = self.decoder(targets, torch.zeros_like(targets), memory, memory)
        logits = torch.einsum("bgd,gfd->bgf", groups, self.output_weight).flatten(1)
        return (logits[:, : self.num_labels] + self.output_bias,)

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all."""
        (logits,) = encoded
        return logits if label_indices is None else logits[:, label_indices]
