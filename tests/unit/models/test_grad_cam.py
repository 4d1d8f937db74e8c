import pytest
import torch
from torch import Tensor, nn

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
    settings = {"hidden_dim": 16, **settings}
    config = ModelConfig(backbone=backbone, weights="none", head=head, **settings)
    return build_model(config, K, image_size=size).eval()


def images(size: tuple[int, int] = SIZE, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def learn_statistics(model: Query2Label) -> None:
    """Gives the norm of the features a mean and variance, as training does."""
    norm, generator = model.head.feature_norm, torch.Generator().manual_seed(3)
    norm.running_mean.uniform_(-1, 1, generator=generator)
    norm.running_var.uniform_(0.5, 2, generator=generator)


@torch.no_grad()
def features_of(model: Query2Label, images: torch.Tensor) -> torch.Tensor:
    return model.forward_features(images)


@pytest.mark.parametrize("feature_norm", [False, True])
def test_grad_cam__of_a_linear_head_is_the_class_activation_map(feature_norm: bool) -> None:
    model = make_model("linear", feature_norm=feature_norm)
    if feature_norm:
        learn_statistics(model)

    features = features_of(model, images())

    maps = grad_cam(model, features, [3, 0])

    with torch.no_grad():
        cells = model.head.feature_norm(features)
        expected = torch.einsum("kc,bchw->bkhw", model.head.output_weight[[3, 0]], cells)
        torch.testing.assert_close(maps, expected.clamp(min=0), rtol=1e-4, atol=1e-5)
        # The part of the logit that is no bias, cell by cell.
        logits = model(images())[:, [3, 0]] - model.head.output_bias[[3, 0]]
        torch.testing.assert_close(expected.mean(dim=(2, 3)), logits, rtol=1e-4, atol=1e-5)


class FirstSpread:
    """A layer norm that goes on dividing by what it divided by first."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.norm, self.spread = norm, None

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.spread is None:
            self.spread = (tokens.var(dim=-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        return centred / self.spread * self.norm.weight + self.norm.bias


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam__weighs_a_channel_by_what_more_of_it_does_to_the_logit(head: str) -> None:
    model = make_model(head).double()
    features = features_of(model, images().double())
    maps = grad_cam(model, features, range(K))
    step = 1e-5 * torch.eye(features.shape[1], dtype=torch.float64)[:, :, None, None]
    norms = [module for module in model.head.modules() if isinstance(module, nn.LayerNorm)]
    assert bool(norms) == (head in ("query2label", "ml_decoder"))
    for index, one in enumerate(features):
        for norm in norms:
            norm.forward = FirstSpread(norm)
        with torch.no_grad():
            model.forward_head(one[None])
            slopes = (model.forward_head(one + step) - model.forward_head(one - step)) / 2e-5
        expected = torch.einsum("ck,chw->khw", slopes, one).clamp(min=0)
        torch.testing.assert_close(maps[index], expected, rtol=1e-5, atol=1e-8)
    assert maps.max() > 0


@pytest.mark.parametrize("feature_norm", [False, True])
def test_grad_cam__of_a_direct_head_is_the_class_activation_map_of_what_it_gathers(
    feature_norm: bool,
) -> None:
    settings = {"attention": "direct", "num_encoder_layers": 0, "num_decoder_layers": 1, "feedforward_dim": 0}
    model = make_model("query2label", hidden_dim=None, num_heads=1, feature_norm=feature_norm, **settings)
    if feature_norm:
        learn_statistics(model)
    head = model.head
    generator = torch.Generator().manual_seed(2)
    for parameter in (head.label_queries, head.output_weight, head.decoder[0].cross_attention_norm.weight):
        nn.init.normal_(parameter, generator=generator)
    features = features_of(model, images())

    maps = grad_cam(model, features, range(K))

    with torch.no_grad():
        logits, attention = head.forward_with_attention(features)
        looked, cells = attention[0, :, 0], head.feature_norm(features)
        gathered = torch.einsum("bkhw,bchw->bkc", looked, cells)
        inner = head.decoder[0].cross_attention_norm
        once = nn.functional.layer_norm(gathered, gathered.shape[-1:]) * inner.weight
        spreads = [each.var(dim=-1, correction=0, keepdim=True).add(1e-5).sqrt() for each in (gathered, once)]
        row = head.output_weight
        row = (row - row.mean(dim=-1, keepdim=True)) / spreads[1] * inner.weight
        row = (row - row.mean(dim=-1, keepdim=True)) / spreads[0]
        exact = torch.einsum("bkc,bchw->bkhw", row, cells)
        # Where the label looked, cell by cell, this is the part of the logit that is no bias.
        parts = logits - head.output_bias
        torch.testing.assert_close((looked * exact).sum(dim=(2, 3)), parts, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(maps, exact.clamp(min=0), rtol=1e-3, atol=1e-4)
    assert maps.max() > 0


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam__of_an_optimized_model_knows_the_means_of_the_features(head: str) -> None:
    model = make_model(head, feature_norm=True)
    learn_statistics(model)
    features = features_of(model, images())
    maps = grad_cam(model, features, [2, 0])
    optimized = model.optimize_for_inference(image_size=SIZE)
    torch.testing.assert_close(grad_cam(optimized, features, [2, 0]), maps, rtol=1e-3, atol=1e-4)
    model.head.feature_norm.running_mean += 1  # other means, other maps: they are not lost on the way
    assert (grad_cam(model, features, [2, 0]) - maps).abs().max() > 0.01


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
