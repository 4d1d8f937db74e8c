"""Heads for inference, made from trained ones: the same logits with less arithmetic."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from query2label.errors import ConfigError
from query2label.models.head_ml_decoder import MLDecoderHead
from query2label.models.head_query2label import LABELS_MEET, LabelQueryHead
from query2label.models.heads import Head, rows
from query2label.models.optimized_attention import linear
from query2label.models.optimized_layers import FirstDecoderLayer, InferenceEncoderLayer, LaterDecoderLayer
from query2label.models.position import sine_position_encoding


def optimized_head(head: Head, map_shape: tuple[int, int], *, any_shape: bool) -> Head:
    """A head for inference that gives the logits of `head`, which stays as it is.

    Args:
        head: In evaluation mode.
        map_shape: (height, width) of the feature maps to come; others are as right, but may be slower.
        any_shape: Keep nothing for this one shape, so that a trace of the head is good for all.
    """
    if isinstance(head, LabelQueryHead):
        return InferenceLabelQueryHead(head, map_shape, any_shape=any_shape)
    if isinstance(head, MLDecoderHead):
        return InferenceMLDecoderHead(head, map_shape)
    return copy.deepcopy(head)  # one product and a sum: there is nothing to gain


class InferenceLabelQueryHead(Head):
    """`LabelQueryHead` with constants computed, projections where they cost least, and norms folded.

    Args:
        head: The trained head.
        map_shape: (height, width) of the feature maps to come.
        any_shape: Compute positions from each map's shape, instead of keeping those of `map_shape`.
    """

    position: Tensor | None

    def __init__(self, head: LabelQueryHead, map_shape: tuple[int, int], *, any_shape: bool) -> None:
        super().__init__()
        num_tokens = map_shape[0] * map_shape[1]
        self.direct, self.labels_meet = head.direct, head.labels_meet
        queries = head.label_queries.detach()
        self.hidden_dim = queries.shape[1]
        self.map_shape = None if any_shape or head.direct else head.stored_position or map_shape
        self.register_buffer("position", None)
        if self.map_shape is not None:
            map_ = queries.new_empty(1, self.hidden_dim, *self.map_shape)
            self.position = head.position_of(map_).detach().clone()
        self.feature_norm, self.input_projection = _folded_input(head)
        encoder: list[Any] = list(head.encoder)
        self.encoder = nn.ModuleList(InferenceEncoderLayer(layer) for layer in encoder)
        first, *later = list[Any](head.decoder)
        self.first = FirstDecoderLayer(first, torch.zeros_like(queries), queries, num_tokens=num_tokens)
        self.later = nn.ModuleList(
            LaterDecoderLayer(layer, queries, num_tokens=num_tokens) for layer in later
        )
        norm, weight = head.decoder_norm, head.output_weight.detach()
        self.eps = norm.eps
        self.output_weight = nn.Parameter(weight * norm.weight.detach(), requires_grad=False)
        bias = weight.double() @ norm.bias.detach().double() + head.output_bias.detach().double()
        self.output_bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """What the labels look at in each decoder layer: its keys and its values, each (B, N, D)."""
        height, width = features.shape[2:]
        keys = values = self.input_projection(features.flatten(2).transpose(1, 2))
        if not self.direct:
            position = self._position(height, width, values)
            for layer in self.encoder:
                values = layer(values, position)
            keys = values + position
        layers: list[Any] = [self.first, *self.later]
        return tuple(part for layer in layers for part in layer.cross_attention.project_tokens(keys, values))

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all."""
        return self._score(encoded, label_indices, with_maps=False)[0]

    def forward_with_attention(
        self, features: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "L B M K H W"]]:
        """Logits, and the cross-attention of each decoder layer and head; each map sums to 1 over H and W."""
        logits, maps = self._score(self.encode(self.feature_norm(features)), None, with_maps=True)
        return logits, torch.stack(maps).reshape(len(maps), *maps[0].shape[:-1], *features.shape[2:])

    def _score(
        self, encoded: tuple[Tensor, ...], label_indices: Tensor | None, *, with_maps: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the maps of each layer if they are asked for.

        Raises:
            ConfigError: If some labels are asked for where labels look at one another.
        """
        if label_indices is not None and self.labels_meet:
            raise ConfigError(LABELS_MEET)
        targets, layer_maps = self.first(encoded[:2], label_indices, with_maps=with_maps)
        maps = [layer_maps]
        for index, layer in enumerate(self.later, start=1):
            tokens = encoded[2 * index : 2 * index + 2]
            targets, layer_maps = layer(targets, tokens, label_indices, with_maps=with_maps)
            maps.append(layer_maps)
        gathered = functional.layer_norm(targets, (self.hidden_dim,), eps=self.eps)
        # No sum over products: OpenVINO 2026.4 adds a constant to a reduced batch wrongly.
        logits = torch.einsum("bkd,kd->bk", gathered, rows(self.output_weight, label_indices))
        return logits + rows(self.output_bias, label_indices), [each for each in maps if each is not None]

    def _position(self, height: int, width: int, like: Tensor) -> Tensor:
        if self.position is not None and (height, width) == self.map_shape:
            return self.position.to(like.dtype)
        return sine_position_encoding(height, width, self.hidden_dim, device=like.device).to(like.dtype)


class InferenceMLDecoderHead(Head):
    """`MLDecoderHead`, whose group queries ask every image the same.

    Args:
        head: The trained head.
        map_shape: (height, width) of the feature maps to come.
    """

    def __init__(self, head: MLDecoderHead, map_shape: tuple[int, int]) -> None:
        super().__init__()
        self.feature_norm, self.input_projection = _folded_input(head)
        with torch.no_grad():
            targets = head.query_norm(2 * head.group_queries)
        self.decoder = FirstDecoderLayer(
            head.decoder, targets, torch.zeros_like(targets), num_tokens=map_shape[0] * map_shape[1]
        )
        self.output_weight = nn.Parameter(head.output_weight.detach().clone(), requires_grad=False)
        self.output_bias = nn.Parameter(head.output_bias.detach().clone(), requires_grad=False)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """The logits (B, K) of all labels."""
        memory = functional.relu(self.input_projection(features.flatten(2).transpose(1, 2)))
        groups, _ = self.decoder(self.decoder.cross_attention.project_tokens(memory, memory), None)
        logits = torch.einsum("bgd,gfd->bgf", groups, self.output_weight).flatten(1)
        return (logits[:, : self.num_labels] + self.output_bias,)

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all."""
        return encoded[0] if label_indices is None else encoded[0][:, label_indices]


class FoldedNorm(nn.Identity):
    """A standardization that the next layer does; it still knows the mean of each channel.

    Args:
        running_mean: Of the norm that was folded; no buffer, as no logit needs it.
    """

    def __init__(self, running_mean: Float[Tensor, " C"]) -> None:
        super().__init__()
        self.running_mean = running_mean.clone()


def _folded_input(head: LabelQueryHead | MLDecoderHead) -> tuple[nn.Module, nn.Module]:
    """The standardization of features (B, C, H, W), and the projection of tokens, which absorbs it."""
    norm, projection = head.feature_norm, head.input_projection
    if isinstance(projection, nn.Identity):
        return copy.deepcopy(norm), nn.Identity()
    weight, bias = projection.weight.detach().flatten(1), cast(Tensor, projection.bias)
    if isinstance(norm, nn.Identity):
        return nn.Identity(), linear(weight, bias)
    norm = cast(nn.BatchNorm2d, norm)  # or what several GPUs make of it
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    folded = weight.double() / (variance + norm.eps).sqrt()
    shift = bias.double() - folded @ mean
    return FoldedNorm(cast(Tensor, norm.running_mean)), linear(
        folded.to(weight.dtype), shift.to(weight.dtype)
    )
