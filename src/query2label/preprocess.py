"""The one evaluation-time image path: decode, orient, convert, resize, normalize.

Validation in training, `evaluate`, `predict`, exported files and the server all use it, so that they cannot
disagree. It needs Pillow and NumPy, never torch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from query2label.decode import DEFAULT_MAX_PIXELS, ImageSource, load_image, load_reduced

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "ImageSource",
    "Interpolation",
    "PreprocessSpec",
    "ResizeGeometry",
    "ResizeMode",
    "enough_size",
    "load_image",
    "normalize",
    "preprocess",
    "resize_geometry",
    "resize_image",
]

ResizeMode = Literal["squash", "letterbox", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
Side = Annotated[int, Field(ge=1, le=4096)]
Spread = Annotated[float, Field(gt=0)]

_FINER: Final = 3
"""How many times finer than what lands on the input a JPEG is decoded at least."""


class PreprocessSpec(BaseModel):
    """How pixels become the model's input; stored in every bundle and exported file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    image_size: tuple[Side, Side]
    """(height, width) in pixels of the model's input."""
    resize: ResizeMode = "squash"
    """`squash` ignores the aspect ratio, `letterbox` pads, `crop` cuts the centre."""
    interpolation: Interpolation = "bilinear"
    """Always antialiased."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean in [0, 1]."""
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)
    """RGB standard deviation in [0, 1]."""

    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as an RGB colour in 0..255: what padding and cut-out holes are filled with."""
        red, green, blue = (min(255, max(0, round(255 * value))) for value in self.mean)
        return red, green, blue

    def resample(self) -> Image.Resampling:
        """Pillow's name of the interpolation."""
        return Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR


@dataclass(frozen=True, slots=True)
class ResizeGeometry:
    """Which part of the image lands on which part of the input, each as (left, top, right, bottom)."""

    image_box: tuple[float, float, float, float]
    """In pixels of the image as displayed; all of it unless the spec crops."""
    input_box: tuple[int, int, int, int]
    """In pixels of the model's input; all of it unless the spec pads."""


def preprocess(
    source: ImageSource, spec: PreprocessSpec, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Float32[np.ndarray, "3 H W"]:
    """The model's input for one image: `load_image`, `resize_image` and `normalize` in a row.

    A JPEG file that is much larger than the input is decoded at a part of its size (`enough_size`). A source
    that is not an image, or is refused, is an `ImageError`.
    """
    enough = functools.partial(enough_size, spec=spec)
    reduced = load_reduced(source, enough=enough, max_pixels=max_pixels)
    return normalize(np.asarray(resize_image(reduced.image, spec, box=reduced.box)), spec)


def enough_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """The (height, width) that an image of this size may be reduced to before it is resized.

    It is three times as fine as the input, so that the antialiased resize is still what makes the pixels.
    """
    geometry = resize_geometry(size, spec)
    left, top, right, bottom = geometry.input_box
    image_left, image_top, image_right, image_bottom = geometry.image_box
    height, width = size
    return (
        math.ceil(_FINER * height * (bottom - top) / (image_bottom - image_top)),
        math.ceil(_FINER * width * (right - left) / (image_right - image_left)),
    )


def resize_image(
    image: Image.Image, spec: PreprocessSpec, *, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """An RGB image of the spec's size, antialiased; padding of `letterbox` has the spec's mean colour.

    Args:
        image: RGB.
        spec: What it becomes.
        box: The part of it that is taken for the image: left, top, right, bottom; unset: all of it.
    """
    shift_x, shift_y, end_x, end_y = box or (0.0, 0.0, float(image.width), float(image.height))
    geometry = resize_geometry((end_y - shift_y, end_x - shift_x), spec)
    left, top, right, bottom = geometry.image_box
    image_box = (left + shift_x, top + shift_y, right + shift_x, bottom + shift_y)
    left, top, right, bottom = geometry.input_box
    resized = image.resize((right - left, bottom - top), spec.resample(), box=image_box)
    height, width = spec.image_size
    if resized.size == (width, height):
        return resized
    canvas = Image.new("RGB", (width, height), spec.mean_colour())
    canvas.paste(resized, (left, top))
    return canvas


def resize_geometry(size: tuple[int | float, int | float], spec: PreprocessSpec) -> ResizeGeometry:
    """Where the pixels of an image of this (height, width) land; puts attention maps back on the image."""
    height, width = size
    input_height, input_width = spec.image_size
    image_box = (0.0, 0.0, float(width), float(height))
    input_box = (0, 0, input_width, input_height)
    if spec.resize == "letterbox":
        scale = min(input_height / height, input_width / width)
        inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
        left, top = (input_width - inner_width) // 2, (input_height - inner_height) // 2
        input_box = (left, top, left + inner_width, top + inner_height)
    elif spec.resize == "crop":
        scale = max(input_height / height, input_width / width)
        kept_height, kept_width = min(height, input_height / scale), min(width, input_width / scale)
        left_cut, top_cut = (width - kept_width) / 2, (height - kept_height) / 2
        image_box = (left_cut, top_cut, left_cut + kept_width, top_cut + kept_height)
    return ResizeGeometry(image_box, input_box)


def normalize(pixels: UInt8[np.ndarray, "H W 3"], spec: PreprocessSpec) -> Float32[np.ndarray, "3 H W"]:
    """RGB pixels in 0..255 as normalized, contiguous channels: (pixels / 255 - mean) / std."""
    scale = (1 / (255 * np.array(spec.std))).astype(np.float32)
    offset = (np.array(spec.mean) / np.array(spec.std)).astype(np.float32)
    channels = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    channels *= scale[:, None, None]
    channels -= offset[:, None, None]
    return channels
