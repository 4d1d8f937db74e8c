"""What model a checkpoint of the authors' code is, told from the names and shapes of its tensors alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError
from torch import Tensor

from query2label.config import ModelConfig
from query2label.errors import BundleError, ConfigError
from query2label.preprocess import PreprocessSpec

Family = Literal["ResNet", "TResNet", "Swin", "CvT"]

_TELLTALES: Final[Mapping[Family, str]] = {
    "ResNet": "backbone.0.body.layer1.0.conv1.weight",
    "TResNet": "backbone.0.body.body.conv1.0.weight",
    "Swin": "backbone.0.layers.0.blocks.0.attn.relative_position_bias_table",
    "CvT": "backbone.0.stage2.cls_token",
}
"""A tensor that only this family has, and whose shape tells members with equally many blocks apart."""
_ARCHITECTURES: Final = {
    ("ResNet", (2, 2, 2, 2), (64, 64, 3, 3)): "resnet18.tv_in1k",
    ("ResNet", (3, 4, 6, 3), (64, 64, 3, 3)): "resnet34.tv_in1k",
    ("ResNet", (3, 4, 6, 3), (64, 64, 1, 1)): "resnet50.tv_in1k",
    ("ResNet", (3, 4, 23, 3), (64, 64, 1, 1)): "resnet101.tv_in1k",
    ("TResNet", (3, 4, 11, 3), (64, 48, 3, 3)): "tresnet_m.miil_in1k_448",
    ("TResNet", (4, 5, 18, 3), (76, 48, 3, 3)): "tresnet_l.miil_in1k_448",
    ("TResNet", (4, 5, 24, 3), (83, 48, 3, 3)): "tresnet_xl.miil_in1k_448",
    ("TResNet", (3, 4, 23, 3), (64, 48, 3, 3)): "tresnet_v2_l.miil_in21k",
    ("Swin", (2, 2, 18, 2), (13**2, 4)): "swin_base_patch4_window7_224.ms_in22k",
    ("Swin", (2, 2, 18, 2), (23**2, 4)): "swin_base_patch4_window12_384.ms_in22k",
    ("Swin", (2, 2, 18, 2), (13**2, 6)): "swin_large_patch4_window7_224.ms_in22k",
    ("Swin", (2, 2, 18, 2), (23**2, 6)): "swin_large_patch4_window12_384.ms_in22k",
    ("CvT", (2, 2, 20), (1, 1, 1024)): "cvt_w24",
}
"""(family, blocks per stage, shape of the telltale) -> timm's name."""
_BLOCK: Final = re.compile(r"^backbone\.0\..*?(?:layer|layers\.|stage)(\d)\.(?:blocks\.)?(\d+)\.")
_ENCODER: Final = "transformer.encoder.layers"
_DECODER: Final = "transformer.decoder.layers"
POSITION: Final = "backbone.1.pe"
_SIZES: Final = {"fc.W": 3, POSITION: 4, f"{_DECODER}.0.linear1.weight": 2}
"""Tensors that tell the head's sizes -> how many dimensions they have."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a checkpoint is."""

    family: Family
    model: ModelConfig
    """Backbone and head."""
    num_labels: int
    preprocess: PreprocessSpec
    """How the authors prepare images for this backbone, at the size that the checkpoint was trained with."""


def recognize(weights: Mapping[str, Tensor], *, num_heads: int, source: str) -> Form:
    """The form of a checkpoint.

    Args:
        weights: Tensors by the authors' names.
        num_heads: Attention heads, the one number that no shape tells.
        source: Where the weights came from, as the start of an error message.

    Raises:
        BundleError: If it is no Query2Label checkpoint, has an unknown backbone, or impossible sizes.
        ConfigError: If `num_heads` does not divide its width.
    """
    lacking = [name for name, ndim in _SIZES.items() if name not in weights or weights[name].ndim != ndim]
    if lacking:
        raise BundleError(
            f"{source} is not a checkpoint of the authors' Query2Label: it lacks {', '.join(lacking)}."
        )
    family, backbone = _recognize_backbone(weights, source)
    _, dim, height, width = weights[POSITION].shape
    if num_heads < 1 or dim % num_heads:
        raise ConfigError(
            f"{source} has the width {dim}, which {num_heads} attention heads do not divide: give as many as "
            "it was trained with (4 in all published models)."
        )
    stride = 16 if family == "CvT" else 32
    try:
        return Form(
            family,
            ModelConfig(
                backbone=backbone,
                weights="none",
                num_heads=num_heads,
                stored_position=(height, width),
                stored_masks=(height, width)
                if any(name.endswith(".attn_mask") for name in weights)
                else None,
                **_as_trained(family),
                **_head_sizes(weights, dim),
            ),
            num_labels=weights["fc.W"].shape[1],
            preprocess=PreprocessSpec(image_size=(height * stride, width * stride), **_normalization(family)),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{source} has sizes that no model here can have: {name}: {first['msg']}."
        ) from None


def _recognize_backbone(weights: Mapping[str, Tensor], source: str) -> tuple[Family, str]:
    depths = _depths(weights)
    for family, telltale in _TELLTALES.items():
        if telltale in weights:
            backbone = _ARCHITECTURES.get((family, depths, tuple(weights[telltale].shape)))
            if backbone is not None:
                return family, backbone
    known = ", ".join(name.partition(".")[0] for name in _ARCHITECTURES.values())
    raise BundleError(f"{source} has a backbone that is not known; known are {known}.")


def _depths(names: Iterable[str]) -> tuple[int, ...]:
    stages = defaultdict(set)
    for match in filter(None, map(_BLOCK.match, names)):
        stages[match[1]].add(match[2])
    return tuple(len(stages[stage]) for stage in sorted(stages))


def _head_sizes(weights: Mapping[str, Tensor], dim: int) -> dict[str, Any]:
    attending = _layers(weights, f"{_DECODER}.{{}}.self_attn.out_proj.weight")
    return {
        "hidden_dim": dim,
        "feedforward_dim": weights[f"{_DECODER}.0.linear1.weight"].shape[0],
        "num_encoder_layers": len(_layers(weights, f"{_ENCODER}.{{}}.linear1.weight")),
        "num_decoder_layers": len(_layers(weights, f"{_DECODER}.{{}}.linear1.weight")),
        "first_self_attention": "0" in attending,
        "other_self_attention": bool(attending - {"0"}),
        "keep_input_projection": "input_proj.weight" in weights,
    }


def _layers(names: Iterable[str], template: str) -> set[str]:
    pattern = re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))
    return {match[1] for match in map(pattern.fullmatch, names) if match}


def _as_trained(family: Family) -> dict[str, Any]:
    # The authors keep batch norms, stem and first stage of their ResNets as they were pretrained.
    return {"freeze": "stem", "freeze_norm": True} if family == "ResNet" else {}


def _normalization(family: Family) -> dict[str, Any]:
    return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)} if family == "TResNet" else {}
