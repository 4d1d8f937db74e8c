"""Encoder and decoder layers for inference, made from trained ones and sharing no memory with them."""

from __future__ import annotations

import copy
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.heads import rows
from query2label.models.layers import DecoderLayer, EncoderLayer, fed_forward
from query2label.models.optimized_attention import (
    InferenceCrossAttention,
    LearnedQuery,
    absorbing_pays,
    attention_output,
    constant_query,
    linear,
    merge_heads,
    split_heads,
)

Tokens = tuple[Tensor, Tensor]
"""Keys and values (B, N, D) as a layer's `cross_attention.project_tokens` gives them."""


class InferenceEncoderLayer(nn.Module):
    """`EncoderLayer` with one projection for queries and keys, and without biases that change nothing."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        attention = layer.self_attention
        query, key = cast(nn.Linear, attention.query), cast(nn.Linear, attention.key)
        self.num_heads = attention.num_heads
        # A key's bias adds the same to all scores of a query, which softmax does not see.
        self.query_key = linear(
            torch.cat([query.weight, key.weight]), torch.cat([query.bias, torch.zeros_like(key.bias)])
        )
        self.value = linear(cast(nn.Linear, attention.value).weight)
        self.output = attention_output(attention)
        self.self_attention_norm = copy.deepcopy(layer.self_attention_norm)
        self.feedforward = copy.deepcopy(layer.feedforward)
        self.feedforward_norm = copy.deepcopy(layer.feedforward_norm)

    def forward(
        self, tokens: Float[Tensor, "B N D"], position: Float[Tensor, "1 N D"]
    ) -> Float[Tensor, "B N D"]:
        """Tokens that have looked at one another."""
        query, key = self.query_key(tokens + position).chunk(2, dim=-1)
        query, key, value = (split_heads(part, self.num_heads) for part in (query, key, self.value(tokens)))
        attended = merge_heads(functional.scaled_dot_product_attention(query, key, value))
        tokens = self.self_attention_norm(tokens + self.output(attended))
        return fed_forward(tokens, self.feedforward, self.feedforward_norm)


class _InferenceDecoderLayer(nn.Module):
    """What the first and the later decoder layers have in common: looking at the map, and feed-forward."""

    def __init__(
        self, layer: DecoderLayer, num_tokens: int, num_labels: int, *, query_is_constant: bool
    ) -> None:
        super().__init__()
        attention = layer.cross_attention
        projected, dim = isinstance(attention.key, nn.Linear), len(layer.cross_attention_norm.weight)
        sizes = (num_tokens, num_labels, dim, attention.num_heads)
        self.cross_attention = InferenceCrossAttention(
            attention,
            absorb_keys=projected and absorbing_pays(*sizes, constant_query=query_is_constant),
            absorb_values=projected and absorbing_pays(*sizes),
        )
        self.cross_attention_norm = copy.deepcopy(layer.cross_attention_norm)
        self.feedforward = copy.deepcopy(layer.feedforward)
        self.feedforward_norm = copy.deepcopy(layer.feedforward_norm)

    def _look(
        self, targets: Tensor, query: Tensor, tokens: Tokens, *, with_maps: bool
    ) -> tuple[Tensor, Tensor | None]:
        maps = None
        if with_maps:
            attended, maps = self.cross_attention.forward_with_maps(query, *tokens)
        else:
            attended = self.cross_attention(query, *tokens)
        targets = self.cross_attention_norm(targets + attended)
        return fed_forward(targets, self.feedforward, self.feedforward_norm), maps


class FirstDecoderLayer(_InferenceDecoderLayer):
    """A `DecoderLayer` whose targets are the same for all images: what it asks is a constant.

    Args:
        layer: The trained layer.
        targets: What it starts from.
        queries: Label queries.
        num_tokens: Of the feature map to come; other maps give the same function at another price.
    """

    targets: Tensor
    query: Tensor

    def __init__(
        self,
        layer: DecoderLayer,
        targets: Float[Tensor, "K D"],
        queries: Float[Tensor, "K D"],
        *,
        num_tokens: int,
    ) -> None:
        super().__init__(layer, num_tokens, len(queries), query_is_constant=True)
        with torch.no_grad():
            met = layer.look_at_labels(targets[None], queries[None])[0]
        self.register_buffer("targets", met.clone())
        absorb_keys = self.cross_attention.absorbs_keys
        query = constant_query(layer.cross_attention, met + queries, absorb_keys=absorb_keys)
        self.register_buffer("query", query)

    def forward(
        self, tokens: Tokens, label_indices: Int[Tensor, " k"] | None, *, with_maps: bool = False
    ) -> tuple[Float[Tensor, "B k D"], Float[Tensor, "B M k N"] | None]:
        """What some labels, or all of them, have gathered, and where they looked if that is asked for."""
        query = self.query if label_indices is None else self.query[:, label_indices]
        return self._look(rows(self.targets, label_indices)[None], query[None], tokens, with_maps=with_maps)


class LaterDecoderLayer(_InferenceDecoderLayer):
    """A `DecoderLayer` whose targets differ from image to image.

    Args:
        layer: The trained layer.
        queries: Label queries.
        num_tokens: Of the feature map to come; other maps give the same function at another price.
    """

    queries: Tensor

    def __init__(self, layer: DecoderLayer, queries: Float[Tensor, "K D"], *, num_tokens: int) -> None:
        super().__init__(layer, num_tokens, len(queries), query_is_constant=False)
        self.register_buffer("queries", queries.detach().clone())
        absorb_keys = self.cross_attention.absorbs_keys
        self.ask = LearnedQuery(layer.cross_attention, absorb_keys=absorb_keys)
        self.self_attention = copy.deepcopy(layer.self_attention)
        self.self_attention_norm = copy.deepcopy(layer.self_attention_norm)

    def forward(
        self,
        targets: Float[Tensor, "B k D"],
        tokens: Tokens,
        label_indices: Int[Tensor, " k"] | None,
        *,
        with_maps: bool = False,
    ) -> tuple[Float[Tensor, "B k D"], Float[Tensor, "B M k N"] | None]:
        """As in the first layer, from what the labels have gathered so far."""
        queries = rows(self.queries, label_indices)[None]
        if self.self_attention is not None and self.self_attention_norm is not None:
            asking = targets + queries
            targets = self.self_attention_norm(targets + self.self_attention(asking, asking, targets))
        return self._look(targets, self.ask(targets + queries), tokens, with_maps=with_maps)
