"""Label queries that look at the features themselves: attention without learned projections."""

import math

import pytest
import torch

from query2label.config import ModelConfig
from query2label.errors import ConfigError
from query2label.models.build import build_head
from query2label.models.head_query2label import LabelQueryHead


def _features(count: int = 40, channels: int = 12) -> torch.Tensor:
    torch.manual_seed(0)
    mixing = torch.randn(channels, channels)
    features = torch.einsum("bchw,dc->bdhw", torch.randn(count, channels, 3, 2), mixing)
    return features * torch.logspace(-1, 2, channels)[:, None, None] + 3


def _head(num_channels: int = 12, **settings: object) -> LabelQueryHead:
    config = ModelConfig(
        attention="direct", feedforward_dim=0, num_heads=2, num_encoder_layers=0, dropout=0.0
    ).model_copy(update=settings)
    head = build_head(config, num_channels, 5)
    assert isinstance(head, LabelQueryHead)
    return head.eval()


def test_direct_head__begins_with_uniform_attention_and_the_label_prior() -> None:
    head = _head()
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    head.set_label_prior(prior)
    logits, maps = head.forward_with_attention(_features(count=4))
    torch.testing.assert_close(logits.sigmoid(), prior.expand(4, 5))
    torch.testing.assert_close(maps[0], torch.full((4, 2, 5, 3, 2), 1 / 6))


def test_direct_head__looks_by_the_dot_product_of_queries_and_features() -> None:
    head = _head(num_decoder_layers=1)
    torch.nn.init.normal_(head.label_queries)
    features = _features(count=2) / 100
    _, maps = head.forward_with_attention(features)
    queries, tokens = head.label_queries.reshape(5, 2, 6), features.reshape(2, 2, 6, 6)
    scores = torch.einsum("kmd,bmdn->bmkn", queries, tokens) / math.sqrt(6)
    torch.testing.assert_close(maps[0].flatten(3), scores.softmax(dim=-1))


def test_direct_head__scores_what_it_gathered_by_one_row_per_label() -> None:
    head = _head(num_decoder_layers=1, num_heads=1)
    head.standardize_features(12)
    for parameter in (head.label_queries, head.output_weight, head.output_bias):
        torch.nn.init.normal_(parameter)
    features = _features(count=3)
    head.feature_norm.momentum = 1.0  # the statistics are those of this batch
    head.train()(features)
    head.eval()
    logits, maps = head.forward_with_attention(features)
    mean, variance = features.mean(dim=(0, 2, 3)), features.var(dim=(0, 2, 3))
    standardized = (features - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    gathered = torch.einsum("bkhw,bchw->bkc", maps[0, :, 0], standardized)
    normed = torch.nn.functional.layer_norm(gathered, (12,))
    expected = (normed * head.output_weight).sum(-1) + head.output_bias
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_direct_head__learns_no_projections_and_no_feed_forward() -> None:
    learning = {name for name, parameter in _head().named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in learning} == {
        "label_queries", "output_weight", "output_bias", "decoder", "decoder_norm",
    }  # fmt: skip
    assert not any("cross_attention." in name or "feedforward" in name for name in learning)


def test_direct_head__refuses_an_encoder() -> None:
    with pytest.raises(
        ConfigError, match=r"looks at the features themselves: set model\.num_encoder_layers to 0"
    ):
        _head(num_encoder_layers=1)
