"""Names of the authors' checkpoints -> ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^module\.", ""),
        (r"^backbone\.0\.body\.", "backbone.model."),
        (r"^input_proj\.", "head.input_projection."),
        (r"^transformer\.encoder\.layers\.", "head.encoder."),
        (r"^transformer\.decoder\.layers\.", "head.decoder."),
        (r"^transformer\.decoder\.norm\.", "head.decoder_norm."),
        (r"^query_embed\.weight$", "head.label_queries"),
        (r"^fc\.W$", "head.output_weight"),
        (r"^fc\.b$", "head.output_bias"),
        (r"(?<=^head\.encoder\.)(\d+)\.norm1\.", r"\1.self_attention_norm."),
        (r"(?<=^head\.encoder\.)(\d+)\.norm2\.", r"\1.feedforward_norm."),
        (r"(?<=^head\.decoder\.)(\d+)\.norm1\.", r"\1.self_attention_norm."),
        (r"(?<=^head\.decoder\.)(\d+)\.norm2\.", r"\1.cross_attention_norm."),
        (r"(?<=^head\.decoder\.)(\d+)\.norm3\.", r"\1.feedforward_norm."),
        (r"\.self_attn\.", ".self_attention."),
        (r"\.multihead_attn\.", ".cross_attention."),
        (r"\.out_proj\.", ".output."),
        (r"\.linear1\.", ".feedforward.expand."),
        (r"\.linear2\.", ".feedforward.contract."),
    )
]
POSITION_NAME = "backbone.1.pe"
"""The stored position encoding; ours is computed from the feature map's shape."""


def rename_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an authors' ResNet checkpoint under the names of `Query2Label`.

    The stacked projections of an attention become three, the output rows lose their leading 1, and batch
    norms get the counter that the authors' frozen ones lack.
    """
    return dict(_renamed(weights))


def _renamed(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for published_name, tensor in weights.items():
        name = published_name
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        if name == POSITION_NAME:
            continue
        if stacked := re.match(r"(.*)\.in_proj_(weight|bias)$", name):
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                yield f"{stacked[1]}.{part}.{stacked[2]}", piece
        elif name in {"head.output_weight", "head.output_bias"}:
            yield name, tensor[0]
        else:
            yield name, tensor
        if name.endswith(".running_mean") and f"{name[:-12]}num_batches_tracked" not in weights:
            yield f"{name[:-12]}num_batches_tracked", torch.tensor(0)
