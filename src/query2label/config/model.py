"""The section `model`: backbone and head."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from query2label.config.section import PositiveInt, Section, UnitInterval
from query2label.preprocess import Side

Width = Annotated[int, Field(ge=1, le=65536)]  # a bundle's could be of any size, and is not ours to trust
MapSide = Annotated[int, Field(ge=1, le=64)]
TimmName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]+$")
]  # timm's `local-dir:` and `hf-hub:` are refused


class ModelConfig(Section):
    """Backbone and head."""

    backbone: TimmName = "tf_efficientnet_lite0"
    """Name of a timm model that can give a spatial feature map, with or without its weights tag."""
    weights: str = "pretrained"
    """Where the backbone starts: `pretrained` (package, cache or hub), `none`, or a weights file."""
    start_from: str | None = None
    """Trained model to start from instead, with its settings and preprocessing: a bundle's folder or hub
    name, or a published checkpoint."""
    output_stride: Literal[8, 16, 32] | None = None
    """Pixels per step of the feature map, for CNNs that can dilate: 8 or 16 look finer; unset: as usual."""
    freeze: Literal["none", "stem", "all"] = "none"
    """Which part of the backbone stays as it is: nothing, the stem and first stage, or everything."""
    freeze_norm: bool = False
    """Keep the statistics and weights of the backbone's normalization layers (the paper's frozen BN)."""
    head: Literal["query2label", "linear", "csra", "ml_decoder"] = "query2label"
    """What turns the feature map into logits; `linear`, `csra` and `ml_decoder` are for comparison."""
    feature_norm: bool = False
    """Standardize each channel of the feature map before the head (helps when the backbone is frozen)."""
    hidden_dim: Width | None = None
    """Width D of the transformer (also of ml_decoder); unset: the backbone's channel count, as published."""
    feedforward_dim: Annotated[int, Field(ge=0, le=65536)] | None = None
    """Width of the feed-forward layers; 0 leaves them out; unset: 4 x the hidden width."""
    attention: Literal["projected", "direct"] = "projected"
    """`projected` as published; `direct` for few images: label queries look at the features themselves,
    starting from their average, with far fewer parameters to learn."""
    start_from_names: bool = False
    """Of direct attention: a label whose English name covers ImageNet classes starts at their rows of the
    backbone's classifier, the nearer the fewer photos it has."""
    start_from_photos: bool = False
    """Of direct attention: each label starts a part of the way to a linear probe of the training photos'
    averaged features, which is solved before the first step."""
    num_heads: PositiveInt = 4
    """Attention heads M; must divide the hidden width."""
    num_encoder_layers: Annotated[int, Field(ge=0, le=100)] = 1
    """Transformer encoder layers over the feature map (query2label)."""
    num_decoder_layers: Annotated[int, Field(ge=1, le=100)] = 2
    """Decoder layers in which the label queries look at the feature map (query2label)."""
    dropout: UnitInterval = 0.1
    """Dropout in attention, feed-forward and residual branches of the head."""
    first_self_attention: bool = False
    """Keep self-attention over labels in the first decoder layer (a constant; removed as published)."""
    other_self_attention: bool = False
    """Keep the self-attention over labels in the other decoder layers (removed as published)."""
    keep_input_projection: bool = False
    """Project the feature map to the hidden width by a 1x1 convolution also where both are equally wide."""
    stored_position: tuple[Side, Side] | None = None
    """(H, W) of the feature map whose position encoding is kept with the weights, as in imported checkpoints;
    maps of other shapes, and all maps where it is unset, get theirs computed."""
    stored_masks: tuple[MapSide, MapSide] | None = None
    """Likewise for a Swin backbone's attention masks."""
    csra_num_heads: Literal[1, 2, 4, 6, 8] = 1
    """Temperatures of the csra head."""
    csra_lambda: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the attended score against the average in the csra head."""
    ml_decoder_num_groups: PositiveInt = 100
    """Group queries of the ml_decoder head; never more than there are labels."""
