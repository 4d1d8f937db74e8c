"""Query2Label as one would write it down at first, in float32: what `inference.py` measures against.

The paper's description with `torch.nn.MultiheadAttention` and nothing rearranged: queries and positions are
repeated over the batch, the zero targets of the first layer are computed with, batch norms stay. It does not
ask for attention maps, which the authors' code does compute. Weights are those of a model of ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.head_query2label import LabelQueryHead
from query2label.models.layers import Attention
from query2label.models.query2label import Query2Label


class PlainQuery2Label(nn.Module):
    """The same function as `model`, which shares its weights; the head is the paper's, or a direct one."""

    def __init__(self, model: Query2Label) -> None:
        super().__init__()
        head = model.head
        if not isinstance(head, LabelQueryHead):
            raise TypeError(f"There is no plain version of a {type(head).__name__}.")
        self.backbone, self.head = model.backbone, head
        layers: list[Any] = [*head.encoder]
        self.encoder_attention = nn.ModuleList(plain_attention(layer.self_attention) for layer in layers)
        layers = [*head.decoder]
        self.self_attention = nn.ModuleList(
            nn.Identity() if layer.self_attention is None else plain_attention(layer.self_attention)
            for layer in layers
        )
        self.cross_attention = nn.ModuleList(plain_attention(layer.cross_attention) for layer in layers)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        head: Any = self.head
        features = head.input_projection(head.feature_norm(self.backbone(images)))
        num_images, dim, height, width = features.shape
        tokens = features.flatten(2).permute(0, 2, 1)
        position = 0 if head.direct else positions(height, width, dim).repeat(num_images, 1, 1)
        for layer, attention in zip(head.encoder, self.encoder_attention, strict=True):
            placed = tokens + position
            attended = attention(placed, placed, tokens, need_weights=False)[0]
            tokens = layer.self_attention_norm(tokens + attended)
            if layer.feedforward is not None:
                tokens = layer.feedforward_norm(tokens + layer.feedforward(tokens))
        queries = head.label_queries.unsqueeze(0).repeat(num_images, 1, 1)
        targets = torch.zeros_like(queries)
        for layer, meet, look in zip(head.decoder, self.self_attention, self.cross_attention, strict=True):
            if layer.self_attention is not None:
                asking = targets + queries
                met = meet(asking, asking, targets, need_weights=False)[0]
                targets = layer.self_attention_norm(targets + met)
            attended = look(targets + queries, tokens + position, tokens, need_weights=False)[0]
            targets = layer.cross_attention_norm(targets + attended)
            if layer.feedforward is not None:
                targets = layer.feedforward_norm(targets + layer.feedforward(targets))
        targets = head.decoder_norm(targets)
        return (head.output_weight * targets).sum(-1) + head.output_bias


class Unprojected(nn.Module):
    """Multi-head attention without learned projections, called as `torch.nn.MultiheadAttention` is."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool
    ) -> tuple[Tensor, None]:
        """Attended values."""
        if need_weights:
            raise NotImplementedError
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), None


def plain_attention(attention: Attention) -> nn.Module:
    """PyTorch's layer with the weights of ours."""
    if not isinstance(attention.query, nn.Linear):
        return Unprojected(attention.num_heads)
    projections: list[Any] = [attention.query, attention.key, attention.value]
    plain = nn.MultiheadAttention(projections[0].in_features, attention.num_heads, batch_first=True)
    plain.in_proj_weight = nn.Parameter(torch.cat([each.weight for each in projections]).detach())
    plain.in_proj_bias = nn.Parameter(torch.cat([each.bias for each in projections]).detach())
    plain.out_proj = attention.output  # type: ignore[assignment]
    return plain


def positions(height: int, width: int, dim: int) -> Tensor:
    """The two-dimensional sine encoding (1, N, D), one value after the other's formula."""
    channels = torch.arange(dim // 2)
    frequencies = 1e4 ** (2 * (channels // 2) / (dim // 2))
    rows = torch.arange(1, height + 1)[:, None] / (height + 1e-6) * 2 * math.pi / frequencies
    columns = torch.arange(1, width + 1)[:, None] / (width + 1e-6) * 2 * math.pi / frequencies
    y, x = (torch.where(channels % 2 == 0, angles.sin(), angles.cos()) for angles in (rows, columns))
    y, x = y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)
    return torch.cat([y, x], dim=-1).reshape(1, height * width, dim)
