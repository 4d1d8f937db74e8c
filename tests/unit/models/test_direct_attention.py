"""Label queries that look at the features themselves: attention without learned projections."""

import numpy as np
import pytest
import torch

from query2label.config import ModelConfig
from query2label.errors import ConfigError
from query2label.models.build import build_head
from query2label.models.components import main_components
from query2label.models.head_query2label import LabelQueryHead


def _features(count: int = 40, channels: int = 12) -> torch.Tensor:
    torch.manual_seed(0)
    mixing = torch.randn(channels, channels)
    features = torch.einsum("bchw,dc->bdhw", torch.randn(count, channels, 3, 2), mixing)
    return features * torch.logspace(-1, 2, channels)[:, None, None] + 3


def _head(num_channels: int = 12, **settings: object) -> LabelQueryHead:
    config = ModelConfig(
        attention="direct", hidden_dim=8, num_heads=2, num_encoder_layers=0, dropout=0.0
    ).model_copy(update=settings)
    head = build_head(config, num_channels, 5)
    assert isinstance(head, LabelQueryHead)
    return head.eval()


def test_main_components__are_those_of_standardized_averages() -> None:
    features = _features()
    weight, bias = main_components(features.split(7), 8)
    tokens = features.permute(0, 2, 3, 1).reshape(-1, 12).double().numpy()
    standardized = (features.double().numpy() - tokens.mean(0)[:, None, None]) / tokens.std(0)[:, None, None]
    pooled = standardized.mean(axis=(2, 3))
    _, _, directions = np.linalg.svd(pooled, full_matrices=False)
    expected = np.abs(pooled @ directions[:8].T)  # the sign of a direction is nobody's
    found = np.abs((features.mean(dim=(2, 3)) @ weight.T + bias).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_main_components__of_fewer_images_than_components_are_orthonormal() -> None:
    weight, _ = main_components([_features(count=3)], 8)
    tokens = _features(count=3).permute(0, 2, 3, 1).reshape(-1, 12)
    directions = weight * tokens.std(dim=0, correction=0)
    torch.testing.assert_close(directions @ directions.T, torch.eye(8), atol=1e-3, rtol=1e-3)


def test_direct_head__begins_with_uniform_attention_and_the_label_prior() -> None:
    head = _head()
    head.fit_features([_features()])
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    head.set_label_prior(prior)
    logits, maps = head.forward_with_attention(_features(count=4))
    torch.testing.assert_close(logits.sigmoid(), prior.expand(4, 5))
    torch.testing.assert_close(maps[0], torch.full((4, 2, 5, 3, 2), 1 / 6))


def test_direct_head__looks_by_the_dot_product_of_queries_and_components() -> None:
    head = _head(num_decoder_layers=1)
    head.fit_features([_features()])
    torch.nn.init.normal_(head.label_queries)
    features = _features(count=2)
    _, maps = head.forward_with_attention(features)
    tokens = head.input_projection(features).flatten(2)  # (B, 8, N)
    scores = torch.einsum("kmd,bmdn->bmkn", head.label_queries.reshape(5, 2, 4), tokens.reshape(2, 2, 4, 6))
    torch.testing.assert_close(maps[0].flatten(3), (scores / 2).softmax(dim=-1))


def test_direct_head__keeps_its_projection_and_learns_the_rest() -> None:
    learning = {
        name for name, parameter in _head(num_decoder_layers=1).named_parameters() if parameter.requires_grad
    }
    assert {name.partition(".")[0] for name in learning} == {
        "label_queries", "output_weight", "output_bias", "decoder", "decoder_norm",
    }  # fmt: skip
    assert not any("cross_attention." in name for name in learning)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_encoder_layers": 1}, "set model.num_encoder_layers to 0"),
        ({"hidden_dim": 16}, r"has channels \(12\): lower model.hidden_dim \(16\)"),
    ],
)
def test_direct_head__refuses_what_it_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _head(**settings)


def test_direct_head__refuses_features_that_are_standardized_twice() -> None:
    with pytest.raises(
        ConfigError, match=r"standardizes the features itself: set model\.feature_norm to false"
    ):
        _head().standardize_features(12)


def test_projected_head__is_not_changed_by_fitting() -> None:
    head = build_head(ModelConfig(hidden_dim=8, num_heads=2), 12, 5)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    head.fit_features([_features()])
    for name, tensor in head.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
