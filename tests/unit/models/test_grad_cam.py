import pytest
import torch

from query2label.config import ModelConfig
from query2label.models.build import build_model
from query2label.models.grad_cam import grad_cam
from query2label.models.query2label import Query2Label

K = 5
HEADS = ("query2label", "linear", "csra", "ml_decoder")
SIZE = (64, 96)


def make_model(
    head: str, backbone: str = "test_resnet", size: tuple[int, int] = SIZE, **settings
) -> Query2Label:
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, weights="none", hidden_dim=16, head=head, **settings)
    return build_model(config, K, image_size=size).eval()


def images(size: tuple[int, int] = SIZE, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features_of(model: Query2Label, images: torch.Tensor) -> torch.Tensor:
    return model.forward_features(images)


@pytest.mark.parametrize("feature_norm", [False, True])
def test_grad_cam__of_a_linear_head_is_the_class_activation_map(feature_norm: bool) -> None:
    model = make_model("linear", feature_norm=feature_norm)
    weight = model.head.output_weight
    if feature_norm:
        model.head.feature_norm.running_var.uniform_(0.5, 2)
        weight = weight / (model.head.feature_norm.running_var + model.head.feature_norm.eps).sqrt()

    features = features_of(model, images())

    maps = grad_cam(model, features, [3, 0])

    with torch.no_grad():
        expected = torch.einsum("kc,bchw->bkhw", weight[[3, 0]], features)
        torch.testing.assert_close(maps, expected.clamp(min=0), rtol=1e-4, atol=1e-5)
        if not feature_norm:  # the part of the logit that is no bias, cell by cell
            logits = model(images())[:, [3, 0]] - model.head.output_bias[[3, 0]]
            torch.testing.assert_close(expected.mean(dim=(2, 3)), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam__weighs_a_channel_by_what_more_of_it_does_to_the_logit(head: str) -> None:
    model = make_model(head).double()
    features = features_of(model, images().double())
    maps = grad_cam(model, features, [1, 4])
    step = 1e-5 * torch.eye(features.shape[1], dtype=torch.float64)[:, :, None, None]
    for index, one in enumerate(features):
        with torch.no_grad():
            slopes = (model.forward_head(one + step) - model.forward_head(one - step)) / 2e-5
        expected = torch.einsum("ck,chw->khw", slopes[:, [1, 4]], one).clamp(min=0)
        torch.testing.assert_close(maps[index], expected, rtol=1e-5, atol=1e-8)
    assert maps.max() > 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("backbone", "size", "cells"),
    [
        ("test_resnet", (64, 96), (2, 3)),
        ("test_mambaout", (160, 96), (5, 3)),
        ("test_vit", (160, 160), (10, 10)),
    ],
)
def test_grad_cam__works_for_every_head_on_every_kind_of_backbone(
    head: str, backbone: str, size: tuple[int, int], cells: tuple[int, int]
) -> None:
    model = make_model(head, backbone, size)
    optimized = model.optimize_for_inference(image_size=size)
    maps = grad_cam(model, features_of(model, images(size, 1)), [0, 2])
    assert maps.shape == (1, 2, *cells)
    assert torch.isfinite(maps).all()
    assert maps.amax() > 0
    with torch.inference_mode():  # as a runtime may be called
        fast = grad_cam(optimized, optimized.forward_features(images(size, 1)), [0, 2])
    torch.testing.assert_close(fast, maps, rtol=1e-3, atol=1e-4)
    assert not maps.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
