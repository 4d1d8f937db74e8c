"""Large JPEG files are decoded at a part of their size: which, from where, and what it changes."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.bundle import BUILTIN_PATH
from query2label.decode import load_reduced
from query2label.errors import ImageError
from query2label.inference.predictor import Predictor
from query2label.preprocess import PreprocessSpec, enough_size, load_image, preprocess, resize_image

LARGEST_SCORE_DIFFERENCE = 0.05
"""Of twelve-megapixel photos, as docs/predicting.md says."""


def jpeg(image: Image.Image, *, orientation: int = 1, quality: int = 95) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def slope(width: int, height: int) -> Image.Image:
    """Red grows from left to right, green from top to bottom, blue from corner to corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("enough", "expected"),
    [((100, 50), (125, 76)), ((126, 50), (250, 151)), ((250, 152), (500, 301)), ((501, 302), (1000, 602))],
)
def test_load_reduced__decodes_as_few_pixels_as_are_enough(
    mode: str, enough: tuple[int, int], expected: tuple[int, int]
) -> None:
    asked = []

    def note(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return enough

    reduced = load_reduced(jpeg(slope(602, 1000).convert(mode)), enough=note)
    assert asked == [(1000, 602)]
    assert (reduced.image.height, reduced.image.width, reduced.image.mode) == (*expected, "RGB")
    scale = 1000 / expected[0]
    assert reduced.box == (0, 0, pytest.approx(602 / scale), pytest.approx(1000 / scale))


def test_load_reduced__leaves_other_images_at_their_size(tmp_path: Path) -> None:
    image = slope(640, 480)
    image.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", image, np.asarray(image)):
        reduced = load_reduced(source, enough=lambda _: (8, 8))
        assert reduced.image.size == (640, 480)
        assert reduced.box == (0, 0, 640, 480)
    assert load_image(jpeg(image)).size == (640, 480)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_preprocess__a_reduced_image_lies_where_the_whole_one_does(orientation: int, resize: str) -> None:
    # 1207 and 905 are 7 and 1 over a multiple of 8: a box that is off by one pixel moves the slope by more
    # than one step of 255.
    spec = PreprocessSpec(image_size=(36, 40), resize=resize, mean=(0, 0, 0), std=(1 / 255,) * 3)
    content = jpeg(slope(1207, 905), orientation=orientation)
    enough = enough_size((905, 1207), spec)
    assert load_reduced(content, enough=lambda _: enough).image.width < 400
    whole = np.asarray(resize_image(load_image(content), spec)).astype(float)
    difference = preprocess(content, spec).transpose(1, 2, 0) - whole
    assert np.abs(difference).max() < 2.5
    assert np.abs(difference).mean() < 0.5


def test_enough_size__is_three_times_what_lands_on_the_input() -> None:
    squash, letterbox, crop = (
        PreprocessSpec(image_size=(100, 200), resize=resize) for resize in ("squash", "letterbox", "crop")
    )
    assert enough_size((1000, 1000), squash) == (300, 600)
    assert enough_size((1000, 1000), letterbox) == (300, 300)
    assert enough_size((1000, 1000), crop) == (600, 600)


def test_preprocess__a_photo_that_is_not_much_larger_than_the_input_is_decoded_whole(
    voc_sample: Path,
) -> None:
    spec = PreprocessSpec(image_size=(224, 224))
    for path in sorted((voc_sample / "JPEGImages").glob("*.jpg"))[:5]:
        assert (
            load_reduced(path, enough=lambda size: enough_size(size, spec)).image.size
            == load_image(path).size
        )


def test_load_reduced__refuses_what_is_damaged_or_too_large() -> None:
    content = jpeg(slope(1200, 900))
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_reduced(content[: len(content) // 2], enough=lambda _: (8, 8))
    with pytest.raises(ImageError, match=r"1200 x 900 pixels, more than the limit of 1 megapixels"):
        load_reduced(content, enough=lambda _: (8, 8), max_pixels=1_000_000)


def test_preprocess__reduced_decoding_keeps_the_scores_of_twelve_megapixels(voc_sample: Path) -> None:
    predictor = Predictor.load(BUILTIN_PATH, device="cpu")
    spec = predictor.bundle.preprocess
    differences = []
    for number, path in enumerate(sorted((voc_sample / "JPEGImages").glob("*.jpg"))[::155]):
        photo = load_image(path)
        # Twelve megapixels; some sizes are no multiple of 8.
        size = [round(side * 4000 / max(photo.size)) + number for side in photo.size]
        content = jpeg(photo.resize(size, Image.Resampling.BICUBIC), quality=92)
        reduced = load_reduced(content, enough=lambda size: enough_size(size, spec)).image
        assert reduced.width == -(-size[0] // 2)
        whole = predictor(resize_image(load_image(content), spec))
        fast = predictor(content)
        differences.append(max(abs(fast.scores[label] - whole.scores[label]) for label in predictor.labels))
    assert 0 < max(differences) <= LARGEST_SCORE_DIFFERENCE
    assert np.mean(differences) <= LARGEST_SCORE_DIFFERENCE / 5
