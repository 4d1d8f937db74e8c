"""Cross-attention for inference: projections lie where they cost least, constants are computed once.

The same function as `Attention`, with less arithmetic. Constants are summed in float64.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.layers import Attention


def absorbing_pays(
    num_tokens: int, num_labels: int, dim: int, num_heads: int, *, constant_query: bool = False
) -> bool:
    """Whether labels should carry a projection of the feature map instead of its tokens.

    Keys: q (W x) = (q W) x, so their projection can join the queries; values: a weighted sum of W x is W
    times the weighted sum of x. There is then a projection per label instead of one per token (none where
    the query is the same for all images), but each head looks at whole tokens instead of its share of them.

    Args:
        num_tokens: N.
        num_labels: K.
        dim: Width D.
        num_heads: M.
        constant_query: Whether it is about keys, and what the labels ask is the same for all images.
    """
    looking = num_tokens * num_labels * dim
    per_token = num_tokens * dim * dim + looking
    per_label = (0 if constant_query else num_labels * dim * dim) + num_heads * looking
    return per_label < per_token


class LearnedQuery(nn.Module):
    """Targets that differ from image to image -> scaled queries per head.

    Args:
        attention: The trained layer.
        absorb_keys: Whether the queries carry the projection of the keys.
    """

    key_weight: Tensor | None

    def __init__(self, attention: Attention, *, absorb_keys: bool) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.query = copy.deepcopy(attention.query)
        self.register_buffer("key_weight", _key_per_head(attention) if absorb_keys else None)

    def forward(self, asking: Float[Tensor, "B K D"]) -> Float[Tensor, "B M K _"]:
        """Queries, of the width of a head or, where they carry the keys' projection, of the tokens."""
        query = split_heads(self.query(asking), self.num_heads)
        query = query / math.sqrt(query.shape[-1])
        return query if self.key_weight is None else query @ self.key_weight


def constant_query(
    attention: Attention, asking: Float[Tensor, "K D"], *, absorb_keys: bool
) -> Float[Tensor, "M K _"]:
    """What `LearnedQuery` gives for targets that are the same for all images."""
    with torch.no_grad():
        exact = LearnedQuery(attention, absorb_keys=absorb_keys).double()
        return cast(Tensor, exact(asking[None].double()))[0].to(asking.dtype)


class InferenceCrossAttention(nn.Module):
    """`Attention` of label queries, already projected, to the tokens of a feature map.

    Args:
        attention: The trained layer.
        absorb_keys: Whether the queries carry the projection of the keys.
        absorb_values: Whether values are projected after they were gathered.
    """

    value_weight: Tensor | None

    def __init__(self, attention: Attention, *, absorb_keys: bool, absorb_values: bool) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.absorbs_keys = absorb_keys
        self.key: nn.Module = nn.Identity()
        self.value: nn.Module = nn.Identity()
        self.output = attention_output(attention)
        self.register_buffer("value_weight", None)
        if absorb_values:
            weight = _weight(attention.value)
            self.value_weight = weight.view(self.num_heads, -1, weight.shape[1]).transpose(1, 2).clone()
        elif isinstance(attention.value, nn.Linear):
            self.value = linear(_weight(attention.value))
        if isinstance(attention.key, nn.Linear) and not absorb_keys:
            self.key = linear(_weight(attention.key))

    def project_tokens(
        self, keys: Float[Tensor, "B N D"], values: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """What all labels look at and gather."""
        return self.key(keys), self.value(values)

    def forward(
        self, query: Float[Tensor, "#B M K _"], keys: Float[Tensor, "B N D"], values: Float[Tensor, "B N D"]
    ) -> Float[Tensor, "B K D"]:
        """Attended values of tokens from `project_tokens`."""
        if self.absorbs_keys or self.value_weight is not None:
            return self.forward_with_maps(query, keys, values)[0]
        key, value = split_heads(keys, self.num_heads), split_heads(values, self.num_heads)
        query = query.expand(key.shape[0], -1, -1, -1)
        attended = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        output: Tensor = self.output(merge_heads(attended))
        return output

    def forward_with_maps(
        self, query: Float[Tensor, "#B M K _"], keys: Float[Tensor, "B N D"], values: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B M K N"]]:
        """As `forward`, and the weights of the tokens; each row sums to 1."""
        maps = self._look(query, keys).softmax(dim=-1)
        return self.output(merge_heads(self._gather(maps, values))), maps

    def _look(self, query: Tensor, keys: Tensor) -> Tensor:
        if not self.absorbs_keys:
            return query @ split_heads(keys, self.num_heads).transpose(-2, -1)
        if query.shape[0] == 1:  # the same for all images: one product for the batch
            scores = functional.linear(keys, query[0].flatten(0, 1)).transpose(1, 2)
        else:
            scores = query.flatten(1, 2) @ keys.transpose(1, 2)
        return scores.reshape(scores.shape[0], *query.shape[1:3], -1)

    def _gather(self, maps: Tensor, values: Tensor) -> Tensor:
        if self.value_weight is None:
            return maps @ split_heads(values, self.num_heads)
        num_images, heads, num_labels, _ = maps.shape
        gathered = (maps.flatten(1, 2) @ values).reshape(num_images, heads, num_labels, -1)
        by_head = gathered.transpose(0, 1).flatten(1, 2) @ self.value_weight  # one product per head
        return by_head.reshape(heads, num_images, num_labels, -1).transpose(0, 1)


def attention_output(attention: Attention) -> nn.Module:
    """The output projection; it takes over the bias of the values, whose weights sum to 1."""
    if not isinstance(attention.output, nn.Linear) or not isinstance(attention.value, nn.Linear):
        return nn.Identity()
    weight = _weight(attention.output)
    bias = weight.double() @ attention.value.bias.double() + attention.output.bias.double()
    return linear(weight, bias.to(weight.dtype))


def linear(weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None) -> nn.Linear:
    """A linear layer with a copy of these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer


def split_heads(tokens: Float[Tensor, "B T D"], num_heads: int) -> Float[Tensor, "B M T d"]:
    """Each head's share of the width."""
    return tokens.reshape(*tokens.shape[:2], num_heads, -1).transpose(1, 2)


def merge_heads(tokens: Float[Tensor, "B M T d"]) -> Float[Tensor, "B T D"]:
    """What `split_heads` took apart."""
    return tokens.transpose(1, 2).flatten(2)


def _weight(projection: nn.Module) -> Tensor:
    return cast(nn.Linear, projection).weight.detach()


def _key_per_head(attention: Attention) -> Tensor:
    weight = _weight(attention.key)
    return weight.view(attention.num_heads, -1, weight.shape[1]).clone()
