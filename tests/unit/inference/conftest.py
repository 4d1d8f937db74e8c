from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.inference.predictor import Predictor
from query2label.preprocess import PreprocessSpec


class ColourRuntime:
    """Logits that are the mean red, green and blue: a model whose answers are easily foreseen."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        return images.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)


@pytest.fixture
def predictor() -> Predictor:
    spec = PreprocessSpec(image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.05, 0.05, 0.05))
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=("red", "green", "blue"),
        preprocess=spec,
        thresholds=(0.5, 0.5, 0.5),
    )
    return Predictor(bundle, ColourRuntime())


def picture(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (12, 10), colour)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """red.png, sub/teal.png (green and blue), broken.jpg, and files that are no images."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    picture((255, 0, 0)).save(folder / "red.png")
    picture((0, 200, 255)).save(folder / "sub" / "teal.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    return folder
