import re
from pathlib import Path

import pytest
import torch

from query2label.bundle import Bundle, save_bundle
from query2label.config import DataConfig, ModelConfig, RunConfig
from query2label.errors import BundleError, ConfigError
from query2label.models.build import (
    build_head,
    build_model,
    feedforward_dim,
    hidden_dim,
    load_model,
    preprocess_spec,
)
from query2label.models.head_csra import CsraHead
from query2label.models.head_linear import LinearHead
from query2label.models.head_ml_decoder import MLDecoderHead
from query2label.models.head_query2label import LabelQueryHead
from query2label.preprocess import PreprocessSpec

SMALL = ModelConfig(backbone="test_resnet", weights="none")


def changed(**settings: object) -> ModelConfig:
    return ModelConfig.model_validate(SMALL.model_dump() | settings)


@pytest.mark.parametrize("head", ["query2label", "linear", "csra", "ml_decoder"])
def test_build_model__builds_every_head(head: str) -> None:
    model = build_model(changed(head=head), 5)

    assert model.training
    assert model.bundle is None
    assert model(torch.randn(2, 3, 64, 96)).shape == (2, 5)
    assert {name.partition(".")[0] for name in model.state_dict()} == {"backbone", "head"}


def test_build_model__is_the_same_for_the_same_seed() -> None:
    torch.manual_seed(3)
    first = build_model(SMALL, 5).state_dict()
    torch.manual_seed(3)
    second = build_model(SMALL, 5).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_build_model__freezes_as_configured() -> None:
    for settings, frozen in (
        ({"freeze": "all"}, "layer4.0.conv1.weight"),
        ({"freeze": "stem"}, "conv1.0.weight"),
        ({"freeze_norm": True}, "bn1.weight"),
    ):
        backbone = build_model(changed(**settings), 5).backbone
        assert not backbone.model.get_parameter(frozen).requires_grad
        assert backbone.model.get_parameter("layer4.0.conv1.weight").requires_grad == (
            settings.get("freeze") != "all"
        )


def test_build_model__loads_weights_unless_told_otherwise(tmp_path: Path) -> None:
    weights = build_model(SMALL, 5).backbone.model.state_dict()
    torch.save(weights, tmp_path / "w.pth")
    config = changed(weights=str(tmp_path / "w.pth"))

    loaded = build_model(config, 5).backbone.model.state_dict()
    fresh = build_model(changed(weights="/nowhere"), 5, load_weights=False).backbone.model.state_dict()

    assert torch.equal(loaded["conv1.0.weight"], weights["conv1.0.weight"])
    assert not torch.equal(fresh["conv1.0.weight"], weights["conv1.0.weight"])


def test_build_model__tells_the_image_size_to_backbones_that_must_know() -> None:
    config = changed(backbone="test_vit_relpos")

    assert build_model(config, 5, image_size=(64, 96))(torch.randn(1, 3, 64, 96)).shape == (1, 5)


def test_build_head__passes_every_setting() -> None:
    head = build_head(
        changed(
            hidden_dim=24,
            feedforward_dim=40,
            num_heads=3,
            num_encoder_layers=2,
            num_decoder_layers=3,
            dropout=0.3,
            first_self_attention=True,
            other_self_attention=True,
        ),
        num_channels=16,
        num_labels=7,
    )
    assert isinstance(head, LabelQueryHead)
    assert head.label_queries.shape == (7, 24)
    assert (len(head.encoder), len(head.decoder)) == (2, 3)
    assert head.encoder[1].feedforward.expand.out_features == 40
    assert head.decoder[0].cross_attention.num_heads == 3
    assert head.decoder[0].dropout.p == 0.3
    assert all(layer.self_attention is not None for layer in head.decoder)

    csra = build_head(changed(head="csra", csra_num_heads=2, csra_lambda=0.7), 16, 7)
    assert isinstance(csra, CsraHead)
    assert (csra.temperatures, csra.residual_weight) == ((1.0, 99.0), 0.7)

    linear = build_head(changed(head="linear", dropout=0.3), 16, 7)
    assert isinstance(linear, LinearHead)
    assert linear.dropout.p == 0.3

    ml_decoder = build_head(
        changed(head="ml_decoder", hidden_dim=24, feedforward_dim=40, num_heads=3, ml_decoder_num_groups=2),
        16,
        7,
    )
    assert isinstance(ml_decoder, MLDecoderHead)
    assert ml_decoder.output_weight.shape == (2, 4, 24)
    assert ml_decoder.decoder.feedforward.expand.out_features == 40
    assert ml_decoder.decoder.cross_attention.num_heads == 3


def test_hidden_dim__is_the_channel_count_unless_set() -> None:
    assert (hidden_dim(SMALL, 96), feedforward_dim(SMALL, 96)) == (96, 384)
    assert (hidden_dim(changed(hidden_dim=64), 96), feedforward_dim(changed(hidden_dim=64), 96)) == (64, 256)
    assert feedforward_dim(changed(feedforward_dim=100), 96) == 100


def test_build_head__refuses_widths_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"5 attention heads do not divide the hidden width 96.*num_heads"):
        build_head(changed(num_heads=5), 96, 7)
    with pytest.raises(ConfigError, match="Hidden width 30 is not a multiple of 4"):
        build_head(changed(hidden_dim=30, num_heads=3), 96, 7)


def test_preprocess_spec__follows_the_backbone_where_nothing_is_set() -> None:
    backbone = build_model(changed(backbone="tf_efficientnet_lite0"), 2).backbone

    spec = preprocess_spec(RunConfig(data=DataConfig(image_size=(128, 160), resize="letterbox")), backbone)

    assert spec == PreprocessSpec(
        image_size=(128, 160),
        resize="letterbox",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def test_preprocess_spec__follows_the_settings() -> None:
    backbone = build_model(SMALL, 2).backbone
    data = DataConfig(interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    spec = preprocess_spec(RunConfig(data=data), backbone)

    assert (spec.interpolation, spec.mean, spec.std) == ("bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_load_model__needs_weights_that_fit(tmp_path: Path) -> None:
    bundle = Bundle(
        model=SMALL, labels=("a", "b"), preprocess=PreprocessSpec(image_size=(64, 64)), thresholds=(0.5, 0.5)
    )
    save_bundle(bundle, build_model(SMALL, 3).state_dict(), tmp_path / "bundle")

    with pytest.raises(
        BundleError,
        match=rf"The weights file of {re.escape(str(tmp_path))}.* of another shape: label_queries",
    ):
        load_model(tmp_path / "bundle")


def test_load_model__knows_the_image_size(tmp_path: Path) -> None:
    config = changed(backbone="test_vit_relpos")
    model = build_model(config, 2, image_size=(64, 96)).eval()
    bundle = Bundle(
        model=config, labels=("a", "b"), preprocess=PreprocessSpec(image_size=(64, 96)), thresholds=(0.5, 0.5)
    )
    save_bundle(bundle, model.state_dict(), tmp_path / "bundle")
    images = torch.randn(1, 3, 64, 96)

    assert torch.equal(load_model(tmp_path / "bundle")(images), model(images))
