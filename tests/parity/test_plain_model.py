"""The model, plain and optimized, against the description in the paper written down with PyTorch's layers."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from query2label.config import ModelConfig
from query2label.models.build import build_model

PLAIN = Path(__file__).resolve().parents[2] / "benchmarks" / "plain_model.py"
SIZE = (96, 160)


@pytest.fixture(scope="module")
def plain_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_model", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_encoder_layers": 2, "num_decoder_layers": 3},
        {"first_self_attention": True, "other_self_attention": True},
        {"hidden_dim": None, "feature_norm": True},
        {"attention": "direct", "num_encoder_layers": 0, "num_decoder_layers": 1, "feedforward_dim": 0},
        {"feedforward_dim": 0},
    ],
    ids=str,
)
def test_model__is_the_papers(settings: dict[str, object], plain_model: ModuleType) -> None:
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": "test_resnet", "weights": "none", "hidden_dim": 16, **settings})
    model = build_model(config, 9, image_size=SIZE).eval()
    for parameter in model.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(3, 3, *SIZE)

    with torch.inference_mode():
        expected = plain_model.PlainQuery2Label(model)(images)
        found, optimized = model(images), model.optimize_for_inference(image_size=SIZE)(images)

    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(optimized, expected, rtol=0, atol=1e-5)
