import pytest
import torch
from torch import nn

from query2label.errors import ConfigError
from query2label.models.layers import Attention, DecoderLayer, EncoderLayer, FeedForward

B, K, N, D, M = 3, 5, 7, 16, 4


def randomized(module: nn.Module) -> nn.Module:
    """All parameters drawn anew, biases and norms included."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


def torch_attention(ours: Attention) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(D, M, batch_first=True)
    stacked = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([projection.weight for projection in stacked]),
            "in_proj_bias": torch.cat([projection.bias for projection in stacked]),
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    return theirs.eval()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture
def attention() -> Attention:
    return randomized(Attention(D, M))


def test_attention__equals_torchs_multihead_attention(attention: Attention) -> None:
    query, key, value = tokens(B, K, D), tokens(B, N, D), tokens(B, N, D) * 2

    expected, expected_maps = torch_attention(attention)(query, key, value, average_attn_weights=False)
    output, maps = attention.forward_with_maps(query, key, value)

    torch.testing.assert_close(attention(query, key, value), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(maps, expected_maps, rtol=0, atol=1e-6)


def test_attention__broadcasts_a_query_that_is_the_same_for_all_images(attention: Attention) -> None:
    query, key = tokens(1, K, D), tokens(B, N, D)

    repeated = attention(query.repeat(B, 1, 1), key, key)

    torch.testing.assert_close(attention(query, key, key), repeated, rtol=0, atol=1e-6)
    torch.testing.assert_close(attention.forward_with_maps(query, key, key)[0], repeated, rtol=0, atol=1e-6)


def test_attention__starts_as_torchs_does() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(256, M), nn.MultiheadAttention(256, M)

    bound = theirs.in_proj_weight.abs().max().item()
    for projection in (ours.query, ours.key, ours.value):
        assert projection.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert not projection.bias.any()
    xavier = (6 / (2 * 256)) ** 0.5
    assert ours.output.weight.abs().max().item() == pytest.approx(xavier, rel=1e-3)


def test_attention__drops_weights_only_in_training() -> None:
    attention = randomized(Attention(D, M, dropout=0.9))
    query, key = tokens(B, K, D), tokens(B, N, D)
    quiet = attention(query, key, key)
    attention.train()

    assert not torch.allclose(attention(query, key, key), quiet)
    output, maps = attention.forward_with_maps(query, key, key)
    assert not torch.allclose(output, quiet)
    torch.testing.assert_close(maps.sum(-1), torch.ones(B, M, K))


def test_attention__refuses_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="5 attention heads do not divide the hidden width 16"):
        Attention(16, 5)


def test_feed_forward__is_relu_between_two_linear_layers() -> None:
    layer = randomized(FeedForward(D, 32, dropout=0.5))
    x = tokens(B, N, D)
    hidden = (x @ layer.expand.weight.T + layer.expand.bias).clamp(min=0)

    torch.testing.assert_close(layer(x), hidden @ layer.contract.weight.T + layer.contract.bias)


def copy_into_torch_layer(ours: nn.Module, theirs: nn.Module, *, norms: list[str]) -> None:
    theirs.linear1.load_state_dict(ours.feedforward.expand.state_dict())
    theirs.linear2.load_state_dict(ours.feedforward.contract.state_dict())
    for index, name in enumerate(norms, start=1):
        getattr(theirs, f"norm{index}").load_state_dict(getattr(ours, name).state_dict())
    theirs.self_attn.load_state_dict(torch_attention(ours.self_attention).state_dict())


def test_encoder_layer__equals_torchs_without_position() -> None:
    ours = randomized(EncoderLayer(D, M, 32))
    theirs = nn.TransformerEncoderLayer(D, M, 32, batch_first=True).eval()
    copy_into_torch_layer(ours, theirs, norms=["self_attention_norm", "feedforward_norm"])
    x = tokens(B, N, D)

    torch.testing.assert_close(ours(x, torch.zeros(1, N, D)), theirs(x), rtol=0, atol=2e-6)


def test_encoder_layer__adds_position_to_queries_and_keys_only() -> None:
    layer = randomized(EncoderLayer(D, M, 32))
    x, position = tokens(B, N, D), tokens(1, N, D)

    attended, _ = torch_attention(layer.self_attention)(x + position, x + position, x)
    x1 = layer.self_attention_norm(x + attended)
    expected = layer.feedforward_norm(x1 + layer.feedforward(x1))

    torch.testing.assert_close(layer(x, position), expected, rtol=0, atol=2e-6)


def test_decoder_layer__equals_torchs_with_self_attention_and_zero_queries() -> None:
    ours = randomized(DecoderLayer(D, M, 32, self_attention=True))
    theirs = nn.TransformerDecoderLayer(D, M, 32, batch_first=True).eval()
    norms = ["self_attention_norm", "cross_attention_norm", "feedforward_norm"]
    copy_into_torch_layer(ours, theirs, norms=norms)
    theirs.multihead_attn.load_state_dict(torch_attention(ours.cross_attention).state_dict())
    targets, memory = tokens(B, K, D), tokens(B, N, D)

    output = ours(targets, torch.zeros(1, K, D), memory, memory)

    torch.testing.assert_close(output, theirs(targets, memory), rtol=0, atol=2e-6)


@pytest.mark.parametrize("self_attention", [False, True])
def test_decoder_layer__adds_queries_to_the_asking_side_only(self_attention: bool) -> None:
    layer = randomized(DecoderLayer(D, M, 32, self_attention=self_attention))
    targets, queries, keys, values = tokens(B, K, D), tokens(1, K, D), tokens(B, N, D), tokens(B, N, D) - 1

    expected = targets
    if self_attention:
        asking = expected + queries
        looked, _ = torch_attention(layer.self_attention)(asking, asking, expected)
        expected = layer.self_attention_norm(expected + looked)
    looked, expected_maps = torch_attention(layer.cross_attention)(
        expected + queries, keys, values, average_attn_weights=False
    )
    expected = layer.cross_attention_norm(expected + looked)
    expected = layer.feedforward_norm(expected + layer.feedforward(expected))
    output, maps = layer.forward_with_maps(targets, queries, keys, values)

    torch.testing.assert_close(layer(targets, queries, keys, values), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(maps, expected_maps, rtol=0, atol=1e-6)
