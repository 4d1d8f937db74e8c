"""The head of the paper: one learned query per label looks at the feature map."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from query2label.errors import ConfigError
from query2label.models.heads import Head, reset_output, rows
from query2label.models.layers import DecoderLayer, EncoderLayer
from query2label.models.position import check_position_dim, sine_position_encoding

LABELS_MEET = (
    "Labels cannot be scored without the others, nor in chunks: this model keeps self-attention over labels "
    "(model.other_self_attention), so each logit depends on all labels."
)


class LabelQueryHead(Head):
    """Query2Label: transformer encoder over the feature map, decoder over label queries, label-wise output.

    Args:
        num_channels: Channels C of the feature map.
        num_labels: Labels K.
        hidden_dim: Width D, a multiple of 4 and of `num_heads`; a 1x1 convolution leads from C to D where
            they differ.
        feedforward_dim: Hidden width of the feed-forward parts; 0 leaves them out.
        num_heads: Attention heads M.
        num_encoder_layers: 0 or more.
        num_decoder_layers: 1 or more.
        dropout: In attention, feed-forward and residual branches.
        first_self_attention: Keep self-attention over labels in the first decoder layer. Its values are 0,
            so it adds a learned constant; in training, all images of a batch share its dropout.
        other_self_attention: Keep self-attention over labels in the decoder layers after the first.
        direct: For few images: queries look at the features themselves, without position and without
            learned projections of queries, keys and values; queries, output rows and the end of each
            feed-forward part start at 0. The head so begins as a linear probe of averaged features, and
            learns from there where to look.
        keep_input_projection: Project also where C and D are equal.
        stored_position: (H, W) of the feature map whose position encoding is a buffer, kept with the weights;
            it begins as computed. Published weights have one that has drifted a little.

    A width that does not fit is a `ConfigError`.

    Source:
        Liu et al. (2021), arXiv:2107.10834.
    """

    position: Tensor

    def __init__(
        self,
        num_channels: int,
        num_labels: int,
        *,
        hidden_dim: int,
        feedforward_dim: int,
        num_heads: int = 4,
        num_encoder_layers: int = 1,
        num_decoder_layers: int = 2,
        dropout: float = 0.1,
        first_self_attention: bool = False,
        other_self_attention: bool = False,
        direct: bool = False,
        keep_input_projection: bool = False,
        stored_position: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_position_dim(hidden_dim)
        self.direct = direct
        self.stored_position = stored_position
        if stored_position is not None:
            self.register_buffer("position", sine_position_encoding(*stored_position, hidden_dim))
        same = num_channels == hidden_dim and not keep_input_projection
        self.input_projection = nn.Identity() if same else nn.Conv2d(num_channels, hidden_dim, kernel_size=1)
        self.encoder = nn.ModuleList(
            EncoderLayer(hidden_dim, num_heads, feedforward_dim, dropout=dropout)
            for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(
                hidden_dim,
                num_heads,
                feedforward_dim,
                dropout=dropout,
                self_attention=other_self_attention if index else first_self_attention,
                projections=not direct,
            )
            for index in range(num_decoder_layers)
        )
        self.labels_meet = other_self_attention and num_decoder_layers > 1
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        self.label_queries = nn.Parameter(torch.randn(num_labels, hidden_dim))
        self.output_weight = nn.Parameter(torch.empty(num_labels, hidden_dim))
        self.output_bias = nn.Parameter(torch.empty(num_labels))
        reset_output(self.output_weight, self.output_bias)
        if direct:
            self._start_as_probe(num_encoder_layers)

    @property
    def weighs_channels(self) -> bool:
        """Whether output rows stand on the feature map's own channels, so that probes of these fit them."""
        return self.direct and isinstance(self.input_projection, nn.Identity)

    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """Keys (memory with position) and values (memory), each (B, N, D)."""
        features = self.input_projection(features)
        tokens = features.flatten(2).transpose(1, 2)
        if self.direct:
            return tokens, tokens
        position = self.position_of(features).to(tokens.dtype)
        for layer in self.encoder:
            tokens = layer(tokens, position)
        return tokens + position, tokens

    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of some labels, or of all.

        Raises:
            ConfigError: If some labels are asked for where labels look at one another.
        """
        if label_indices is not None and self.labels_meet:
            raise ConfigError(LABELS_MEET)
        keys, values = encoded
        queries = rows(self.label_queries, label_indices)[None]
        targets = torch.zeros_like(queries)
        for layer in self.decoder:
            targets = layer(targets, queries, keys, values)
        return self._logits(targets, label_indices)

    def forward_with_attention(
        self, features: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "L B M K H W"]]:
        """Logits, and the cross-attention of each decoder layer and head; each map sums to 1 over H and W."""
        keys, values = self.encode(self.feature_norm(features))
        queries = self.label_queries[None]
        targets = torch.zeros_like(queries)
        maps = []
        for layer in self.decoder:
            targets, layer_maps = cast(DecoderLayer, layer).forward_with_maps(targets, queries, keys, values)
            maps.append(layer_maps)
        return self._logits(targets, None), torch.stack(maps).reshape(
            len(maps), *maps[0].shape[:-1], *features.shape[2:]
        )

    def position_of(self, features: Float[Tensor, "B D H W"]) -> Float[Tensor, "1 N D"]:
        """Position encoding of a projected feature map, by its shape."""
        _, dim, height, width = features.shape
        if self.stored_position == (height, width):
            return self.position
        return sine_position_encoding(height, width, dim, device=features.device)

    @torch.no_grad()
    def _start_as_probe(self, num_encoder_layers: int) -> None:
        """Lets a direct head begin at uniform attention and zero output.

        Raises:
            ConfigError: If there are encoder layers, which would hide the features.
        """
        if num_encoder_layers:
            raise ConfigError(
                'model.attention = "direct" looks at the features themselves: '
                "set model.num_encoder_layers to 0."
            )
        nn.init.zeros_(self.label_queries)
        nn.init.zeros_(self.output_weight)
        for layer in self.decoder:
            feedforward = cast(DecoderLayer, layer).feedforward
            if feedforward is not None:
                nn.init.zeros_(feedforward.contract.weight)

    def _logits(self, targets: Tensor, label_indices: Tensor | None) -> Tensor:
        weight = rows(self.output_weight, label_indices)
        gathered: Tensor = self.decoder_norm(targets)
        return (gathered * weight).sum(dim=-1) + rows(self.output_bias, label_indices)
