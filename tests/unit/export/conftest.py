from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec

SIZE = (64, 96)


def _save_model(
    folder: Path, *, size: tuple[int, int] = SIZE, num_labels: int = 5, **settings: object
) -> Path:
    """A bundle of a small model with statistics that are not where they started."""
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": "test_resnet", "weights": "none", "hidden_dim": 32, **settings})
    model = build_model(config, num_labels, image_size=size).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    if settings.get("attention") == "direct":  # it starts at zero
        for parameter in model.head.parameters():
            nn.init.normal_(parameter, std=0.3)
    model.bundle = Bundle(
        model=config,
        labels=tuple(f"label, <{index}> & é" for index in range(num_labels)),
        preprocess=PreprocessSpec(image_size=size, resize="letterbox", interpolation="bicubic"),
        thresholds=tuple(0.3 + 0.05 * (index % 8) for index in range(num_labels)),
        temperature=1.5,
        metrics={"map": 0.5},
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_model() -> Callable[..., Path]:
    """Writes the bundle of a small model into a folder, with settings as given."""
    return _save_model


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_model(tmp_path_factory.mktemp("model") / "bundle")
