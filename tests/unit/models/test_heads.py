import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from query2label.errors import ConfigError
from query2label.models.head_csra import CsraHead
from query2label.models.head_linear import LinearHead
from query2label.models.head_ml_decoder import MLDecoderHead
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.heads import Head

C, K, H, W = 16, 11, 3, 5
SIZES = {"hidden_dim": 16, "feedforward_dim": 32}

HEADS: dict[str, Callable[[], Head]] = {
    "query2label": lambda: LabelQueryHead(C, K, **SIZES),
    "query2label, narrower": lambda: LabelQueryHead(C, K, hidden_dim=8, feedforward_dim=32),
    "query2label, no encoder": lambda: LabelQueryHead(C, K, **SIZES, num_encoder_layers=0),
    "query2label, first self-attention": lambda: LabelQueryHead(C, K, **SIZES, first_self_attention=True),
    "query2label, no layer to meet in": lambda: LabelQueryHead(
        C, K, **SIZES, num_decoder_layers=1, other_self_attention=True
    ),
    "linear": lambda: LinearHead(C, K, dropout=0.1),
    "csra": lambda: CsraHead(C, K, num_heads=4),
    "ml_decoder": lambda: MLDecoderHead(C, K, **SIZES, num_groups=4, num_heads=4),
    "ml_decoder, more groups than labels": lambda: MLDecoderHead(C, K, **SIZES, num_groups=100, num_heads=4),
}


@pytest.fixture(params=HEADS, ids=str)
def head(request: pytest.FixtureRequest) -> Head:
    torch.manual_seed(0)
    return HEADS[request.param]().eval()


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, C, H, W, generator=torch.Generator().manual_seed(1))


def test_head__scores_each_image_alone(head: Head, features: torch.Tensor) -> None:
    logits = head(features)

    assert logits.shape == (2, K)
    assert head.num_labels == K
    torch.testing.assert_close(head(features[1:]), logits[1:], rtol=0, atol=1e-6)
    assert logits.std() > 0


def test_head__scores_some_labels_exactly(head: Head, features: torch.Tensor) -> None:
    indices = torch.tensor([7, 0, 10])

    some = head(features, label_indices=indices)

    torch.testing.assert_close(some, head(features)[:, indices], rtol=0, atol=1e-6)


@pytest.mark.parametrize("label_chunk", [1, 4, 11, 100])
def test_head__scores_labels_in_chunks_exactly(head: Head, features: torch.Tensor, label_chunk: int) -> None:
    indices = torch.tensor([7, 0, 10, 2, 2])

    all_labels = head(features, label_chunk=label_chunk)
    some_labels = head(features, label_indices=indices, label_chunk=label_chunk)

    torch.testing.assert_close(all_labels, head(features), rtol=0, atol=1e-6)
    torch.testing.assert_close(some_labels, head(features)[:, indices], rtol=0, atol=1e-6)


def test_head__takes_any_feature_map_shape(head: Head) -> None:
    assert head(torch.randn(1, C, 1, 1)).shape == (1, K)
    assert head(torch.randn(2, C, 7, 2)).shape == (2, K)


def test_head__starts_at_the_label_prior(head: Head, features: torch.Tensor) -> None:
    prior = torch.tensor([0.0, 1.0, 0.5, 0.25] + [0.1] * (K - 4))
    before, bias = head(features), head.output_bias.detach().clone()

    head.set_label_prior(prior)

    edge = math.log(1e-4 / (1 - 1e-4))
    expected = torch.tensor([edge, -edge, 0.0, math.log(1 / 3)] + [math.log(1 / 9)] * (K - 4))
    torch.testing.assert_close(head.output_bias.detach(), expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(head(features) - before, (expected - bias).expand(2, K), rtol=0, atol=2e-4)


def test_head__learns_in_every_parameter(head: Head, features: torch.Tensor) -> None:
    head.train()
    (head(features) * torch.randn(2, K)).sum().backward()

    assert [name for name, parameter in head.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", [name for name in HEADS if not name.startswith("query2label")])
def test_head__without_attention_maps_says_so(name: str, features: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r'Head has no attention maps.*model.head = "query2label"'):
        HEADS[name]().forward_with_attention(features)


@pytest.mark.parametrize("name", [name for name in HEADS if name.startswith("query2label")])
def test_label_query_head__says_where_it_looked(name: str, features: torch.Tensor) -> None:
    head = HEADS[name]().eval()

    logits, attention = head.forward_with_attention(features)

    assert attention.shape == (len(head.decoder), 2, 4, K, H, W)
    torch.testing.assert_close(logits, head(features), rtol=0, atol=1e-6)
    torch.testing.assert_close(attention.sum((-2, -1)), torch.ones(attention.shape[:-2]), rtol=0, atol=1e-6)


def test_label_query_head__attention_is_laid_out_as_the_feature_map() -> None:
    torch.manual_seed(0)
    head = LabelQueryHead(C, K, **SIZES, num_encoder_layers=0).eval()
    with torch.no_grad():  # keys that answer to the first channel alone, for a query that asks for it
        for attention in (layer.cross_attention for layer in head.decoder):
            attention.key.weight.zero_()[:, 0] = 1
            attention.query.weight.zero_()
            attention.query.bias.fill_(1)
    features = torch.zeros(1, C, H, W)
    features[0, 0, 1, 4] = 1000

    _, maps = head.forward_with_attention(features)

    torch.testing.assert_close(maps[..., 1, 4], torch.ones(maps.shape[:-2]))


def test_label_query_head__refuses_parts_where_labels_meet(features: torch.Tensor) -> None:
    head = LabelQueryHead(C, K, **SIZES, other_self_attention=True).eval()
    assert head(features).shape == (2, K)

    for arguments in ({"label_indices": torch.tensor([1])}, {"label_chunk": 4}):
        with pytest.raises(ConfigError, match="each logit depends on all labels"):
            head(features, **arguments)


def test_label_query_head__projects_only_where_widths_differ() -> None:
    assert isinstance(HEADS["query2label"]().input_projection, nn.Identity)
    assert HEADS["query2label, narrower"]().input_projection.weight.shape == (8, C, 1, 1)


def test_label_query_head__starts_as_published() -> None:
    torch.manual_seed(0)
    head = LabelQueryHead(64, 2000, hidden_dim=64, feedforward_dim=128)

    assert head.label_queries.std().item() == pytest.approx(1, abs=0.02)
    for parameter in (head.output_weight, head.output_bias):
        assert parameter.abs().max().item() == pytest.approx(1 / 8, rel=1e-2)
    for feedforward in (layer.feedforward for layer in [*head.encoder, *head.decoder]):
        xavier = (6 / (64 + 128)) ** 0.5
        assert feedforward.expand.weight.abs().max().item() == pytest.approx(xavier, rel=1e-2)
        assert feedforward.contract.weight.abs().max().item() == pytest.approx(xavier, rel=1e-2)


def test_linear_head__is_average_pooling_and_a_linear_layer(features: torch.Tensor) -> None:
    head = LinearHead(C, K)

    expected = functional.linear(features.mean((2, 3)), head.output_weight, head.output_bias)

    torch.testing.assert_close(head(features), expected)


@pytest.mark.parametrize("num_heads", [1, 2, 4, 6, 8])
def test_csra_head__equals_a_loop_over_the_papers_formula(num_heads: int, features: torch.Tensor) -> None:
    torch.manual_seed(0)
    head = CsraHead(C, K, num_heads=num_heads, residual_weight=0.3)
    temperatures = {1: [1], 2: [1, 99], 4: [1, 2, 4, 99], 6: [1, 2, 3, 4, 5, 99]}
    temperatures[8] = [1, 2, 3, 4, 5, 6, 7, 99]

    expected = torch.zeros(2, K)
    for index, temperature in enumerate(temperatures[num_heads]):
        for label in range(K):
            row = head.output_weight[label, index]
            scores = torch.einsum("bchw,c->bhw", features, row / row.norm()).flatten(1)
            weights = (
                functional.one_hot(scores.argmax(1), H * W)
                if temperature == 99
                else (temperature * scores).softmax(1)
            )
            expected[:, label] += scores.mean(1) + 0.3 * (weights * scores).sum(1)

    torch.testing.assert_close(head(features), expected, rtol=0, atol=1e-5)


def test_ml_decoder_head__gives_each_label_its_group(features: torch.Tensor) -> None:
    head = HEADS["ml_decoder"]().eval()  # 11 labels in 4 groups of 3
    assert head.output_weight.shape == (4, 3, 16)
    before = head(features)

    with torch.no_grad():
        head.group_queries[1] = -head.group_queries[1]

    changed = (head(features) - before).abs().amax(0) > 1e-6
    assert changed.tolist() == [False] * 3 + [True] * 3 + [False] * 5


@pytest.mark.parametrize(
    ("num_labels", "num_groups", "shape"),
    [(9, 6, (5, 2)), (80, 100, (80, 1)), (9605, 100, (100, 97)), (1, 100, (1, 1))],
)
def test_ml_decoder_head__makes_no_group_without_a_label(
    num_labels: int, num_groups: int, shape: tuple[int, int]
) -> None:
    head = MLDecoderHead(C, num_labels, hidden_dim=8, feedforward_dim=8, num_groups=num_groups)

    assert head.output_weight.shape[:2] == shape
    assert head(torch.randn(1, C, 2, 2)).shape == (1, num_labels)


def test_ml_decoder_head__queries_are_kept_but_not_learned() -> None:
    head = HEADS["ml_decoder"]()

    assert "group_queries" in head.state_dict()
    assert "group_queries" not in dict(head.named_parameters())


def test_ml_decoder_head__equals_the_papers_decoder_layer(features: torch.Tensor) -> None:
    head = HEADS["ml_decoder"]().eval()
    layer, attention = head.decoder, head.decoder.cross_attention
    memory = head.input_projection(features.flatten(2).transpose(1, 2)).relu()
    groups = head.query_norm(2 * head.group_queries).expand(2, -1, -1)

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (4, -1)).transpose(1, 2)

    q, k, v = split(attention.query(groups)), split(attention.key(memory)), split(attention.value(memory))
    attended = (q @ k.mT / math.sqrt(4)).softmax(-1) @ v
    groups = layer.cross_attention_norm(groups + attention.output(attended.transpose(1, 2).flatten(2)))
    groups = layer.feedforward_norm(groups + layer.feedforward(groups))
    expected = [
        groups[:, label // 3] @ head.output_weight[label // 3, label % 3] + head.output_bias[label]
        for label in range(K)
    ]

    torch.testing.assert_close(head(features), torch.stack(expected, dim=1), rtol=0, atol=1e-5)
