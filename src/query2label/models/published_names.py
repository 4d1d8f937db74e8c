"""The authors' names of tensors, and the tensors of their checkpoints under ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from query2label.errors import BundleError
from query2label.models.published_forms import POSITION, Family

_HEAD_NAMES: Final = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^head\.position$", POSITION),
        (r"^head\.input_projection\.", "input_proj."),
        (r"^head\.label_queries$", "query_embed.weight"),
        (r"^head\.output_weight$", "fc.W"),
        (r"^head\.output_bias$", "fc.b"),
        (r"^head\.decoder_norm\.", "transformer.decoder.norm."),
        (r"^head\.(encoder|decoder)\.", r"transformer.\1.layers."),
        (r"\.self_attention_norm\.", ".norm1."),
        (r"\.cross_attention_norm\.", ".norm2."),
        (r"(?<=encoder\.layers\.)(\d+)\.feedforward_norm\.", r"\1.norm2."),
        (r"(?<=decoder\.layers\.)(\d+)\.feedforward_norm\.", r"\1.norm3."),
        (r"\.self_attention\.", ".self_attn."),
        (r"\.cross_attention\.", ".multihead_attn."),
        (r"_attn\.output\.", "_attn.out_proj."),
        (r"_attn\.(?:query|key|value)\.(weight|bias)$", r"_attn.in_proj_\1"),
        (r"\.feedforward\.expand\.", ".linear1."),
        (r"\.feedforward\.contract\.", ".linear2."),
    )
]
_STACKED: Final = ("query", "key", "value")
_PREFIXES: Final[Mapping[Family, str]] = {
    "ResNet": "backbone.0.body.",
    "TResNet": "backbone.0.body.",
    "Swin": "backbone.0.",
    "CvT": "backbone.0.",
}
_WITHOUT_LEVEL: Final = re.compile(r"(\.body\.body\.layer\d\.\d+\.conv\d\.)0\.(?=[01]\.)")
"""A TResNet block that halves the resolution has one container more around its convolution."""
_FIXED: Final = ".relative_position_index"
"""What a Swin computes from its window's size alone."""
_ABN_EPSILON: Final = 1e-5


def clean_names(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The tensors that carry weights, under names that are told apart only by what they are."""
    cleaned = {name: tensor for name, tensor in weights.items() if not name.endswith(_FIXED)}
    if family == "TResNet":
        cleaned = {_WITHOUT_LEVEL.sub(r"\1", name): tensor for name, tensor in cleaned.items()}
    return cleaned


def to_our_names(
    weights: Mapping[str, Tensor], our_names: Iterable[str], family: Family, *, source: str
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of `Query2Label`.

    The stacked projections of an attention become three, the output rows lose their leading 1, and batch
    norms without a counter get one.

    Args:
        weights: Tensors by the authors' names.
        our_names: Every tensor that the model has.
        family: Of the backbone.
        source: Where the weights came from, as the start of an error message.

    Raises:
        BundleError: If a tensor is missing or left over; the message lists them by the authors' names.
    """
    theirs = clean_names(weights, family)
    wanted = {name: published_name(name, family) for name in our_names}
    optional = {name for name in wanted if name.endswith(".num_batches_tracked")}
    missing = {their for our, their in wanted.items() if their not in theirs and our not in optional}
    left_over = theirs.keys() - wanted.values()
    if missing or left_over:
        parts = (("missing", missing), ("left over", left_over))
        listed = "; ".join(f"{title}: {', '.join(sorted(names))}" for title, names in parts if names)
        raise BundleError(f"{source} does not fit the model that its shapes tell of; {listed}.")
    return {
        our: _as_ours(our, theirs[their], family) if their in theirs else torch.tensor(0)
        for our, their in wanted.items()
    }


def published_name(name: str, family: Family) -> str:
    """The authors' name for one of our tensors."""
    if name.startswith("backbone.model."):
        return _PREFIXES[family] + _backbone_name(name.removeprefix("backbone.model."), family)
    for pattern, replacement in _HEAD_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _backbone_name(name: str, family: Family) -> str:
    if family == "TResNet":
        name = re.sub(r"\.conv\.(?=weight$)", ".0.", name)
        return re.sub(r"\.bn\.(?=\w+$)", ".1.", name)
    if family == "Swin":  # the authors end a stage with the downsampling with which timm begins the next
        return re.sub(
            r"^layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name
        )
    return name


def _as_ours(name: str, tensor: Tensor, family: Family) -> Tensor:
    if name == "head.position":
        return tensor.flatten(2).transpose(1, 2)
    if name in {"head.output_weight", "head.output_bias"}:
        return tensor.squeeze(0)
    part = name.split(".")[-2]
    if name.startswith("head.") and part in _STACKED and tensor.ndim:
        return tensor.tensor_split(3)[_STACKED.index(part)]
    if family == "TResNet" and name.endswith(".bn.weight"):  # their in-place batch norm knows no sign
        return tensor.abs() + _ABN_EPSILON
    return tensor
