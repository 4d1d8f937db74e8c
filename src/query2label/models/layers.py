"""Attention, feed-forward, and the post-norm encoder and decoder layers of the paper.

They differ from `torch.nn.Transformer*Layer` in three ways: position and label queries are added to queries
and keys only, in every layer; the decoder's self-attention may be left out; attention maps are given per
head. A batch of one in queries or targets is broadcast, so what is the same for all images is computed once.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from query2label.errors import ConfigError


class Attention(nn.Module):
    """Multi-head attention over batch-first sequences.

    Args:
        dim: Width D.
        num_heads: Heads M; divides `dim`.
        dropout: Probability that an attention weight is dropped in training.
        projections: Learn what queries, keys, values and the output are; off: they are what comes in.

    Raises:
        ConfigError: If `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, projections: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(
                f"{num_heads} attention heads do not divide the hidden width {dim}: "
                "change model.num_heads or model.hidden_dim."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query, self.key, self.value, self.output = (
            nn.Linear(dim, dim) if projections else nn.Identity() for _ in range(4)
        )
        for name, projection in self.named_children():
            if isinstance(projection, nn.Linear):
                # Xavier's bound for the first three of them stacked, as torch.nn.MultiheadAttention has it.
                gain = 1.0 if name == "output" else math.sqrt(0.5)
                nn.init.xavier_uniform_(projection.weight, gain=gain)
                nn.init.zeros_(projection.bias)

    def forward(
        self, query: Float[Tensor, "#B Q D"], key: Float[Tensor, "#B N D"], value: Float[Tensor, "#B N D"]
    ) -> Float[Tensor, "_ Q D"]:
        """Attended values, by PyTorch's fused attention."""
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        dropout = self.dropout if self.training else 0.0
        q = q.expand(max(q.shape[0], k.shape[0]), -1, -1, -1)
        return self._merge(functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout))

    def forward_with_maps(
        self, query: Float[Tensor, "#B Q D"], key: Float[Tensor, "#B N D"], value: Float[Tensor, "#B N D"]
    ) -> tuple[Float[Tensor, "_ Q D"], Float[Tensor, "_ {self.num_heads} Q N"]]:
        """Attended values, and the softmax weights (before dropout) that gave them; each row sums to 1."""
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        maps = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self._merge(functional.dropout(maps, self.dropout, self.training) @ v), maps

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _merge(self, tokens: Tensor) -> Tensor:
        merged: Tensor = self.output(tokens.transpose(1, 2).flatten(2))
        return merged


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between them.

    Args:
        dim: Width D of input and output.
        hidden_dim: Width between the layers.
        dropout: Probability that a hidden unit is dropped in training.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(hidden_dim, dim)
        nn.init.xavier_uniform_(self.expand.weight)
        nn.init.xavier_uniform_(self.contract.weight)

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The layer's output, to be added to `tokens` by the caller."""
        output: Tensor = self.contract(self.dropout(functional.relu(self.expand(tokens))))
        return output


def fed_forward(
    tokens: Float[Tensor, "B T D"],
    feedforward: nn.Module | None,
    norm: nn.Module | None,
    dropout: nn.Module | None = None,
) -> Float[Tensor, "B T D"]:
    """The last step of a layer: feed-forward, added and normalized; or nothing, where it has no such part."""
    if feedforward is None or norm is None:
        return tokens
    change: Tensor = feedforward(tokens)
    output: Tensor = norm(tokens + (change if dropout is None else dropout(change)))
    return output


class EncoderLayer(nn.Module):
    """Self-attention over the feature map, then feed-forward; each is added and then normalized.

    Args:
        dim: Width D.
        num_heads: Attention heads M.
        feedforward_dim: Hidden width of the feed-forward part; 0 leaves it out.
        dropout: In attention, feed-forward and residual branches.
    """

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attention = Attention(dim, num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout=dropout) if feedforward_dim else None
        self.feedforward_norm = nn.LayerNorm(dim) if feedforward_dim else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "B N D"], position: Float[Tensor, "1 N D"]
    ) -> Float[Tensor, "B N D"]:
        """Tokens that have looked at one another; `position` joins queries and keys, not values."""
        placed = tokens + position
        tokens = self.self_attention_norm(tokens + self.dropout(self.self_attention(placed, placed, tokens)))
        return fed_forward(tokens, self.feedforward, self.feedforward_norm, self.dropout)


class DecoderLayer(nn.Module):
    """Label queries look at the feature map: [self-attention,] cross-attention, feed-forward, all post-norm.

    Args:
        dim: Width D.
        num_heads: Attention heads M.
        feedforward_dim: Hidden width of the feed-forward part; 0 leaves it out.
        dropout: In attention, feed-forward and residual branches.
        self_attention: Whether labels look at one another first.
        projections: Whether the cross-attention learns projections.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        *,
        dropout: float = 0.0,
        self_attention: bool = False,
        projections: bool = True,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(dim, num_heads, dropout=dropout) if self_attention else None
        self.self_attention_norm = nn.LayerNorm(dim) if self_attention else None
        self.cross_attention = Attention(dim, num_heads, dropout=dropout, projections=projections)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout=dropout) if feedforward_dim else None
        self.feedforward_norm = nn.LayerNorm(dim) if feedforward_dim else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        targets: Float[Tensor, "#B K D"],
        queries: Float[Tensor, "1 K D"],
        keys: Float[Tensor, "B N D"],
        values: Float[Tensor, "B N D"],
    ) -> Float[Tensor, "B K D"]:
        """What each label has gathered.

        Args:
            targets: What each label has gathered so far.
            queries: Label queries, added to the targets wherever these ask.
            keys: The encoded feature map with its position.
            values: The encoded feature map.
        """
        targets = self.look_at_labels(targets, queries)
        attended = self.cross_attention(targets + queries, keys, values)
        return self._finish(targets, attended)

    def forward_with_maps(
        self,
        targets: Float[Tensor, "#B K D"],
        queries: Float[Tensor, "1 K D"],
        keys: Float[Tensor, "B N D"],
        values: Float[Tensor, "B N D"],
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B M K N"]]:
        """As `forward`, and where on the feature map each label looked, per head."""
        targets = self.look_at_labels(targets, queries)
        attended, maps = self.cross_attention.forward_with_maps(targets + queries, keys, values)
        return self._finish(targets, attended), maps

    def look_at_labels(
        self, targets: Float[Tensor, "#B K D"], queries: Float[Tensor, "1 K D"]
    ) -> Float[Tensor, "_ K D"]:
        """The first step: what each label has gathered after self-attention, where the layer has one."""
        if self.self_attention is None or self.self_attention_norm is None:
            return targets
        asking = targets + queries
        attended = self.self_attention(asking, asking, targets)
        output: Tensor = self.self_attention_norm(targets + self.dropout(attended))
        return output

    def _finish(self, targets: Tensor, attended: Tensor) -> Tensor:
        targets = self.cross_attention_norm(targets + self.dropout(attended))
        return fed_forward(targets, self.feedforward, self.feedforward_norm, self.dropout)
