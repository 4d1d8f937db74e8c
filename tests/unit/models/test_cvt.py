from pathlib import Path

import pytest
import torch
from torch.nn import functional

from query2label.errors import ConfigError
from query2label.models.backbone import build_backbone
from query2label.models.cvt import ConvAttention, QuickGELU


def plain_attention(attention: ConvAttention, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """One image, token by token and head by head, straight from the paper's description."""
    dim, prefix = tokens.shape[2], attention.num_prefix_tokens
    grid = tokens[0, prefix:].T.reshape(1, dim, height, width)

    def projected(letter: str, stride: int) -> torch.Tensor:
        parts = getattr(attention, f"conv_proj_{letter}")
        convolved = functional.conv2d(grid, parts.conv.weight, stride=stride, padding=1, groups=dim)
        scale = parts.bn.weight / (parts.bn.running_var + 1e-5).sqrt()
        normed = (convolved - parts.bn.running_mean[:, None, None]) * scale[:, None, None]
        rows = (normed + parts.bn.bias[:, None, None])[0].reshape(dim, -1).T
        return getattr(attention, f"proj_{letter}")(torch.cat([tokens[0, :prefix], rows]))

    query, key, value = projected("q", 1), projected("k", 2), projected("v", 2)
    per_head = dim // attention.num_heads
    heads = []
    for start in range(0, dim, per_head):
        part = slice(start, start + per_head)
        weights = (query[:, part] @ key[:, part].T / dim**0.5).softmax(dim=-1)
        heads.append(weights @ value[:, part])
    return attention.proj(torch.cat(heads, dim=1))[None]


@pytest.mark.parametrize("num_prefix_tokens", [0, 1])
def test_conv_attention__equals_the_papers_description(num_prefix_tokens: int) -> None:
    torch.manual_seed(0)
    attention = ConvAttention(12, num_heads=3, num_prefix_tokens=num_prefix_tokens).eval()
    for name, tensor in attention.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(0, 0.5)
    tokens = torch.randn(1, num_prefix_tokens + 5 * 4, 12)

    with torch.no_grad():
        torch.testing.assert_close(attention(tokens, 5, 4), plain_attention(attention, tokens, 5, 4))


def test_quick_gelu__is_not_the_exact_one() -> None:
    values = torch.tensor([-1.0, 0.0, 2.0])

    torch.testing.assert_close(QuickGELU()(values), values / (1 + torch.exp(-1.702 * values)))
    assert (QuickGELU()(values) - functional.gelu(values)).abs().max() > 1e-3


def test_cvt__class_token_is_looked_at_and_dropped() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("test_cvt", weights="none").eval()
    images = torch.randn(1, 3, 64, 96)

    with torch.no_grad():
        before = backbone(images)
        backbone.model.stage2.cls_token += torch.randn(64)
        after = backbone(images)

    assert before.shape == (1, 64, 4, 6)
    assert (after - before).abs().mean() > 1e-3


def test_cvt__can_be_exported_for_any_batch() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("test_cvt", weights="none").eval()
    batch = torch.export.Dim("batch", max=8)

    program = torch.export.export(
        backbone, (torch.randn(2, 3, 96, 64),), dynamic_shapes={"images": {0: batch}}
    )

    images = torch.randn(5, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), backbone(images))


def test_cvt__leaves_the_classifier_of_a_weights_file_away(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = build_backbone("test_cvt", weights="none").model.state_dict()
    classifier = {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    torch.save({**weights, **classifier}, tmp_path / "w.pth")

    backbone = build_backbone("test_cvt", weights=str(tmp_path / "w.pth"))

    loaded = backbone.model.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_cvt__has_no_weights_to_download() -> None:
    with pytest.raises(ConfigError, match=r"Backbone cvt_w24 has no pretrained weights: set model\.weights"):
        build_backbone("cvt_w24")


def test_cvt__w24_has_the_published_size() -> None:
    with torch.device("meta"):
        model = build_backbone("cvt_w24", weights="none").model

    assert sum(parameter.numel() for parameter in model.parameters()) == 276_171_392
    assert [stage["num_chs"] for stage in model.feature_info] == [192, 768, 1024]
