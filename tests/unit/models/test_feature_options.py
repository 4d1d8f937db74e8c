"""Finer feature maps, and standardized ones."""

import pytest
import torch
from torch import nn

from query2label.config import ModelConfig
from query2label.errors import ConfigError
from query2label.models.build import build_model
from query2label.models.query2label import Query2Label


@pytest.mark.parametrize(("stride", "size"), [(None, 4), (16, 8), (8, 16)])
def test_output_stride__sets_the_step_of_the_feature_map(stride: int | None, size: int) -> None:
    config = ModelConfig(backbone="test_efficientnet", weights="none", output_stride=stride, head="linear")
    features = build_model(config, 3).forward_features(torch.randn(1, 3, 128, 128))
    assert features.shape[2:] == (size, size)


def test_output_stride__is_refused_where_the_family_cannot() -> None:
    config = ModelConfig(backbone="test_vit", weights="none", output_stride=8)
    with pytest.raises(ConfigError, match="test_vit cannot give a feature map of stride 8"):
        build_model(config, 3)


@pytest.mark.parametrize("head", ["query2label", "linear", "csra", "ml_decoder"])
def test_feature_norm__makes_the_head_blind_to_scale_and_shift_of_channels(head: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="test_resnet", weights="none", head=head, feature_norm=True, hidden_dim=32, dropout=0.0
    )
    model = build_model(config, 3)  # in training mode: the statistics are the batch's
    features = torch.randn(8, model.backbone.num_channels, 4, 4)
    scale, shift = torch.rand(2, model.backbone.num_channels, 1, 1) * 50 + 1
    torch.testing.assert_close(
        model.forward_head(features), model.forward_head(features * scale + shift), atol=1e-3, rtol=1e-3
    )


def standardizing() -> tuple[Query2Label, torch.Tensor]:
    """A model whose statistics are those of the images."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", feature_norm=True, hidden_dim=32)
    model = build_model(config, 3)
    images = torch.randn(4, 3, 64, 64) * 3
    model(images)
    return model.eval(), images


def test_feature_norm__is_part_of_the_attention_path_too() -> None:
    model, images = standardizing()
    logits, _ = model.forward_with_attention(images)
    torch.testing.assert_close(logits, model(images), atol=1e-5, rtol=1e-5)


def test_feature_norm__of_several_gpus_is_folded_as_that_of_one() -> None:
    model, images = standardizing()
    expected = model.optimize_for_inference()(images)
    model.head = nn.SyncBatchNorm.convert_sync_batchnorm(model.head)
    torch.testing.assert_close(model.optimize_for_inference()(images), expected, atol=1e-5, rtol=1e-5)
