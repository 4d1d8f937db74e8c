"""What a backbone's ImageNet classifier knows of labels before a run has seen a photo of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from timm.data.imagenet_info import infer_imagenet_subset
from torch import Tensor
from torch.nn import functional

from query2label.config import ModelConfig
from query2label.models.backbone import SpatialBackbone
from query2label.models.imagenet_words import classes_named
from query2label.models.offline import offline_weights_path, read_offline_weights
from query2label.models.timm_models import weights_path
from query2label.models.weights import read_weights_file

ROW_LENGTH: Final = 0.5
"""Of a row without photos. On standardized features, this is about the deviation of a label's logits."""
PHOTOS_WORTH: Final = 5
"""How many photos of its label a start is worth: with so many, its row is half as long."""


def start_rows(
    class_rows: Float[Tensor, "classes C"], labels: Sequence[str], shown: Int[Tensor, " K"]
) -> Float[Tensor, "K C"]:
    """Where the output rows of labels start: the mean of the classes that a label's name covers.

    Args:
        class_rows: From `read_class_rows`.
        labels: Names; one that covers no class starts at 0.
        shown: Training images that show each label. The more there are, the less the start is to say.
    """
    distinct = functional.normalize(class_rows - class_rows.mean(dim=0))
    rows = torch.zeros(len(labels), class_rows.shape[1])
    for row, label in zip(rows, labels, strict=True):
        if classes := classes_named(label):
            row.copy_(functional.normalize(distinct[list(classes)].mean(dim=0), dim=0))
    return rows * (ROW_LENGTH * PHOTOS_WORTH / (PHOTOS_WORTH + shown))[:, None]


def read_class_rows(config: ModelConfig, backbone: SpatialBackbone) -> Float[Tensor, "1000 C"] | None:
    """The classifier's rows that came with a backbone's pretrained weights, one per class of ImageNet-1k.

    None where there are none: weights without a classifier, one for other classes, or one that does not
    stand on the channels of the feature map.
    """
    settings = backbone.model.pretrained_cfg
    path = weights_path(config.backbone, weights=config.weights)
    if path is None or infer_imagenet_subset(settings) != "imagenet-1k":
        return None
    if path == offline_weights_path(backbone.architecture):
        weights = read_offline_weights(path, timm_names=backbone.model.state_dict())
    else:
        weights = read_weights_file(path)
    rows = weights.get(f"{settings['classifier']}.weight")
    shape = (settings["num_classes"], backbone.num_channels)
    if rows is None or rows.numel() != shape[0] * shape[1] or tuple(rows.shape[:2]) != shape:
        return None
    return rows.reshape(shape).float()
