"""The resize modes and normalization, by values; decoding has tests of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from query2label.errors import ImageError
from query2label.preprocess import (
    PreprocessSpec,
    normalize,
    preprocess,
    resize_geometry,
    resize_image,
)

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_normalize__gives_contiguous_float32_channels() -> None:
    spec = PreprocessSpec(image_size=(1, 2), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    result = normalize(np.array([[[0, 255, 51], [255, 0, 255]]], dtype=np.uint8), spec)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, [[[-1, 1]], [[3, -1]], [[0.2, 1]]], atol=1e-6)


def test_normalize__agrees_with_float64_arithmetic() -> None:
    spec = PreprocessSpec(image_size=(40, 60))
    pixels = np.asarray(NOISE)
    expected = ((pixels / 255 - np.array(spec.mean)) / np.array(spec.std)).transpose(2, 0, 1)
    np.testing.assert_allclose(normalize(pixels, spec), expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 24), (17, 9), (80, 50), (40, 60)])
def test_resize_image__squashes_as_torchvision_does_on_pil_images(
    interpolation: str, size: tuple[int, int]
) -> None:
    spec = PreprocessSpec(image_size=size, interpolation=interpolation)
    expected = v2.Resize(size, InterpolationMode(interpolation))(NOISE)
    np.testing.assert_array_equal(np.asarray(resize_image(NOISE, spec)), np.asarray(expected))


def test_resize_image__is_antialiased() -> None:
    stripes = np.zeros((8, 640, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    for interpolation in ("bilinear", "bicubic"):
        spec = PreprocessSpec(image_size=(8, 64), interpolation=interpolation)
        small = np.asarray(resize_image(Image.fromarray(stripes), spec)).astype(int)
        assert np.abs(small[:, 2:-2] - 127.5).max() <= 6


def test_resize_image__letterbox_pads_both_sides_with_the_mean_colour() -> None:
    spec = PreprocessSpec(image_size=(64, 64), resize="letterbox", mean=(1.0, 0.5, 0.0))
    result = np.asarray(resize_image(Image.new("RGB", (100, 50), (9, 8, 7)), spec))
    assert (result[16:48] == (9, 8, 7)).all()
    assert (result[:16] == (255, 128, 0)).all()
    assert (result[48:] == (255, 128, 0)).all()


def test_resize_image__letterbox_keeps_the_pixels_of_a_plain_resize() -> None:
    spec = PreprocessSpec(image_size=(30, 30), resize="letterbox")
    inner = NOISE.resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(resize_image(NOISE, spec))[5:25], np.asarray(inner))


def test_resize_image__crop_takes_the_centre_at_the_short_side() -> None:
    spec = PreprocessSpec(image_size=(20, 20), resize="crop")
    whole = v2.CenterCrop(20)(NOISE.resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(np.asarray(resize_image(NOISE, spec)), np.asarray(whole))


def test_resize_image__crop_without_scaling_keeps_the_very_pixels() -> None:
    spec = PreprocessSpec(image_size=(40, 40), resize="crop")
    np.testing.assert_array_equal(np.asarray(resize_image(NOISE, spec)), np.asarray(NOISE)[:, 10:50])


def test_resize_geometry__says_where_the_image_lands() -> None:
    squash = resize_geometry((50, 100), PreprocessSpec(image_size=(64, 32)))
    assert (squash.image_box, squash.input_box) == ((0, 0, 100, 50), (0, 0, 32, 64))
    letterbox = resize_geometry((50, 100), PreprocessSpec(image_size=(64, 32), resize="letterbox"))
    assert (letterbox.image_box, letterbox.input_box) == ((0, 0, 100, 50), (0, 24, 32, 40))
    crop = resize_geometry((50, 100), PreprocessSpec(image_size=(64, 32), resize="crop"))
    assert (crop.image_box, crop.input_box) == ((37.5, 0, 62.5, 50), (0, 0, 32, 64))


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 512), st.integers(1, 512), st.booleans())
def test_resize_geometry__keeps_the_aspect_ratio_inside_both_frames(
    height: int, width: int, input_height: int, input_width: int, crop: bool
) -> None:
    mode = "crop" if crop else "letterbox"
    geometry = resize_geometry(
        (height, width), PreprocessSpec(image_size=(input_height, input_width), resize=mode)
    )
    left, top, right, bottom = geometry.image_box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    inner_left, inner_top, inner_right, inner_bottom = geometry.input_box
    assert 0 <= inner_left < inner_right <= input_width
    assert 0 <= inner_top < inner_bottom <= input_height
    if crop:  # exact
        assert (right - left) * input_height == pytest.approx((bottom - top) * input_width)
    else:  # to half a pixel, but never less than one
        scale = min(input_height / height, input_width / width)
        assert abs((inner_right - inner_left) - max(1, width * scale)) <= 0.5
        assert abs((inner_bottom - inner_top) - max(1, height * scale)) <= 0.5


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
def test_preprocess__survives_extreme_shapes(resize: str) -> None:
    spec = PreprocessSpec(image_size=(24, 32), resize=resize, interpolation="bicubic")
    for shape in ((1, 1, 3), (1, 5000, 3), (5000, 1, 3)):
        result = preprocess(np.full(shape, 200, dtype=np.uint8), spec)
        assert result.shape == (3, 24, 32)
        assert np.isfinite(result).all()


def test_preprocess__passes_the_limit_on() -> None:
    with pytest.raises(ImageError, match="It has 60 x 40 pixels, more than"):
        preprocess(NOISE, PreprocessSpec(image_size=(8, 8)), max_pixels=100)


def test_preprocess__agrees_with_torchvision_on_real_photos(voc_sample: Path) -> None:
    spec = PreprocessSpec(image_size=(224, 224), interpolation="bicubic")
    reference = v2.Compose(
        [
            v2.Resize((224, 224), InterpolationMode.BICUBIC),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )
    for path in sorted((voc_sample / "JPEGImages").iterdir())[:10]:
        with Image.open(path) as image:
            expected = reference(image.convert("RGB")).numpy()
        np.testing.assert_allclose(preprocess(path, spec), expected, atol=2e-6)


def test_mean_colour__is_the_mean_in_bytes() -> None:
    assert PreprocessSpec(image_size=(8, 8)).mean_colour() == (124, 116, 104)
    assert PreprocessSpec(image_size=(8, 8), mean=(-1.0, 0.0, 2.0)).mean_colour() == (0, 0, 255)
