"""What several rooms' tests share."""

from collections.abc import Callable

import pytest
import torch
import torchvision

DIM, HIDDEN = 16, 24


@pytest.fixture
def checkpoint() -> Callable[..., dict[str, torch.Tensor]]:
    """Makes the weights of a small model with the authors' names."""
    return _checkpoint


def _checkpoint(
    labels: int = 3, *, map_size: tuple[int, int] = (2, 3), seed: int = 0
) -> dict[str, torch.Tensor]:
    """ResNet-18 under a narrow head, with the authors' names."""
    rng = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.1.pe": (1, DIM, *map_size),
        "input_proj.weight": (DIM, 512, 1, 1),
        "input_proj.bias": (DIM,),
        "query_embed.weight": (labels, DIM),
        "fc.W": (1, labels, DIM),
        "fc.b": (1, labels),
        "transformer.decoder.norm.weight": (DIM,),
        "transformer.decoder.norm.bias": (DIM,),
    }
    attention = {"in_proj_weight": (3 * DIM, DIM), "in_proj_bias": (3 * DIM,)}
    attention |= {"out_proj.weight": (DIM, DIM), "out_proj.bias": (DIM,)}
    for layer, inner, norms in (
        ("encoder.layers.0", "self_attn", (1, 2)),
        ("decoder.layers.0", "multihead_attn", (2, 3)),
        ("decoder.layers.1", "multihead_attn", (2, 3)),
    ):
        parts = {f"{inner}.{name}": shape for name, shape in attention.items()}
        parts |= {"linear1.weight": (HIDDEN, DIM), "linear1.bias": (HIDDEN,)}
        parts |= {"linear2.weight": (DIM, HIDDEN), "linear2.bias": (DIM,)}
        parts |= {f"norm{i}.{leaf}": (DIM,) for i in norms for leaf in ("weight", "bias")}
        shapes |= {f"transformer.{layer}.{name}": shape for name, shape in parts.items()}
    torch.manual_seed(seed)
    body = torchvision.models.resnet18(weights=None).state_dict()
    kept = {
        k: v for k, v in body.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")
    }
    return {f"backbone.0.body.{name}": tensor for name, tensor in kept.items()} | {
        name: 0.1 * torch.randn(shape, generator=rng) for name, shape in shapes.items()
    }
