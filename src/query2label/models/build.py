"""From configuration and bundles to models: the one place here that reads settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from query2label.bundle import Bundle, read_bundle, read_weights
from query2label.config import ModelConfig, RunConfig
from query2label.models.backbone import SpatialBackbone, build_backbone
from query2label.models.head_csra import CsraHead
from query2label.models.head_linear import LinearHead
from query2label.models.head_ml_decoder import MLDecoderHead
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.heads import Head
from query2label.models.query2label import Query2Label
from query2label.models.swin_masks import keep_masks
from query2label.models.weights import check_fit, load_strictly
from query2label.preprocess import PreprocessSpec


def build_model(
    config: ModelConfig,
    num_labels: int,
    *,
    load_weights: bool = True,
    image_size: tuple[int, int] | None = None,
) -> Query2Label:
    """A model as configured, in training mode, its head freshly drawn from torch's generator.

    Args:
        config: Backbone and head.
        num_labels: Labels K.
        load_weights: Whether the backbone gets the weights that `config.weights` names.
        image_size: (height, width) of the images to come; some backbones must know it. Unset: what the
            backbone was pretrained with.

    A setting that does not fit the backbone is a `ConfigError`.
    """
    weights = config.weights if load_weights else "none"
    backbone = _configured_backbone(config, weights=weights, image_size=image_size)
    return Query2Label(backbone, _configured_head(config, backbone, num_labels)).train()


def build_head(config: ModelConfig, num_channels: int, num_labels: int) -> Head:
    """The configured head for a feature map of `num_channels`; widths that do not fit are a `ConfigError`."""
    width = hidden_dim(config, num_channels)
    match config.head:
        case "linear":
            return LinearHead(num_channels, num_labels, dropout=config.dropout)
        case "csra":
            return CsraHead(
                num_channels,
                num_labels,
                num_heads=config.csra_num_heads,
                residual_weight=config.csra_lambda,
            )
        case "ml_decoder":
            return MLDecoderHead(
                num_channels,
                num_labels,
                hidden_dim=width,
                feedforward_dim=feedforward_dim(config, num_channels),
                num_groups=config.ml_decoder_num_groups,
                num_heads=config.num_heads,
                dropout=config.dropout,
            )
        case "query2label":
            return LabelQueryHead(
                num_channels,
                num_labels,
                hidden_dim=width,
                feedforward_dim=feedforward_dim(config, num_channels),
                num_heads=config.num_heads,
                num_encoder_layers=config.num_encoder_layers,
                num_decoder_layers=config.num_decoder_layers,
                dropout=config.dropout,
                first_self_attention=config.first_self_attention,
                other_self_attention=config.other_self_attention,
                direct=config.attention == "direct",
                keep_input_projection=config.keep_input_projection,
                stored_position=config.stored_position,
            )


def hidden_dim(config: ModelConfig, num_channels: int) -> int:
    """Width D of the transformer: as set, else the backbone's channel count."""
    return config.hidden_dim or num_channels


def feedforward_dim(config: ModelConfig, num_channels: int) -> int:
    """Width of the feed-forward layers: as set, else 4 x the hidden width."""
    width = config.feedforward_dim
    return 4 * hidden_dim(config, num_channels) if width is None else width


def preprocess_spec(config: RunConfig, backbone: SpatialBackbone) -> PreprocessSpec:
    """How pixels become the model's input: as configured, else as the backbone was pretrained."""
    data, pretrained = config.data, backbone.pretrained_spec
    return PreprocessSpec(
        image_size=data.image_size,
        resize=data.resize,
        interpolation=data.interpolation or pretrained.interpolation,
        mean=data.mean or pretrained.mean,
        std=data.std or pretrained.std,
    )


def load_model(path: Path) -> Query2Label:
    """The model of a bundle folder, in evaluation mode, with its `bundle`.

    A bundle that cannot be read, and weights that do not fit the model, are each a `BundleError`; a head that
    claims to be larger than its weights is refused before it takes any memory.
    """
    return restore_model(read_bundle(path), read_weights(path), source=f"The weights file of {path}")


def restore_model(bundle: Bundle, weights: Mapping[str, Tensor], *, source: str) -> Query2Label:
    """The model that a bundle describes, with these weights, in evaluation mode; errors as in `load_model`.

    Args:
        bundle: What the model is.
        weights: Tensors by the model's names.
        source: Where the weights came from, as the start of an error message.
    """
    config, num_labels = bundle.model, len(bundle.labels)
    backbone = _configured_backbone(config, weights="none", image_size=bundle.preprocess.image_size)
    with torch.device("meta"):
        claimed = _configured_head(config, backbone, num_labels)
    check_fit(claimed, {k[5:]: v for k, v in weights.items() if k.startswith("head.")}, source=source)
    model = Query2Label(backbone, _configured_head(config, backbone, num_labels), bundle=bundle)
    load_strictly(model, weights, source=source)
    return model.eval()


def _configured_backbone(
    config: ModelConfig, *, weights: str, image_size: tuple[int, int] | None
) -> SpatialBackbone:
    backbone = build_backbone(
        config.backbone, weights=weights, image_size=image_size, output_stride=config.output_stride
    )
    if config.stored_masks is not None:
        keep_masks(backbone, config.stored_masks)
    backbone.freeze(config.freeze, norm=config.freeze_norm)
    return backbone


def _configured_head(config: ModelConfig, backbone: SpatialBackbone, num_labels: int) -> Head:
    head = build_head(config, backbone.num_channels, num_labels)
    if config.feature_norm:
        head.standardize_features(backbone.num_channels)
    return head
