"""Images to compare models on where there are no photos: smooth fields of colour, shapes, and noise."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw

_NUM_IMAGES = 10


@functools.cache
def example_images() -> tuple[Image.Image, ...]:
    """Ten images of different sizes and contrasts, always the same."""
    return tuple(_image(np.random.default_rng(seed)) for seed in range(_NUM_IMAGES))


def _image(generator: np.random.Generator) -> Image.Image:
    width, height = (int(side) for side in generator.integers(200, 700, 2))
    coarse = generator.integers(0, 256, (int(generator.integers(2, 9)), int(generator.integers(2, 9)), 3))
    image = Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(1, 12))):
        left, top = int(generator.integers(0, width)), int(generator.integers(0, height))
        box = (left, top, left + int(generator.integers(10, 200)), top + int(generator.integers(10, 200)))
        red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape(box, fill=(red, green, blue))
    noise = generator.normal(0, generator.uniform(0, 30), (height, width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
