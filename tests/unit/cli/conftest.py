from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.inference.predictor import Predictor
from query2label.preprocess import PreprocessSpec


def brightness(images: np.ndarray) -> np.ndarray:
    """Logits that are the mean red, green and blue: a model whose answers are easily foreseen."""
    return images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)


@pytest.fixture
def colour_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `--model` says, the labels are red, green and "blue, dark"."""
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=("red", "green", "blue, dark"),
        preprocess=PreprocessSpec(image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1)),
        thresholds=(0.5, 0.5, 0.5),
    )
    monkeypatch.setattr(Predictor, "load", lambda *_, **__: Predictor(bundle, brightness))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """a.png (red and a little green), b.png (nothing), c.png (broken)."""
    Image.new("RGB", (9, 9), (255, 140, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9), (90, 0, 0)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    return tmp_path
