"""A colour-telling model and photos of one colour each."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.preprocess import PreprocessSpec

COLOURS = {"red": (250, 10, 10), "green": (10, 200, 10), "yellow": (240, 210, 10), "blue": (0, 10, 240)}


@pytest.fixture
def bundle() -> Bundle:
    """Labels red, green and blue; scores are exact functions of the channels' means."""
    return Bundle(
        model=ModelConfig(),
        labels=("red", "green", "blue"),
        preprocess=PreprocessSpec(image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        thresholds=(0.5, 0.5, 0.5),
        temperature=2.0,
    )


def colour_logits(images: np.ndarray) -> np.ndarray:
    """10 for a full channel, -10 for an empty one."""
    return 10 * images.mean(axis=(2, 3))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos in splits val and test, one of them cut off, with a table."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = ["image,labels,split"]
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 16), colour).save(folder / f"{name}.png")
    lines += ["red.png,red,test", "green.png,green,test", "yellow.png,red|green,test", "cut.jpg,red,test"]
    lines += ["blue.png,blue,val", "second.png,red,val"]
    Image.new("RGB", (20, 16), COLOURS["red"]).save(folder / "second.png")
    whole = folder / "whole.jpg"
    Image.effect_noise((200, 200), 90).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:400])
    whole.unlink()
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder
