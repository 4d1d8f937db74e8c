"""Copies of real photos, saved anew, resized or brightened, are found, and no other photos."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from query2label.data.look_alikes import LookAlike, find_look_alikes, look_of, read_looks
from query2label.data.samples import Dataset, Sample
from query2label.labels import LabelSet

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved anew": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "squashed": lambda image: image.resize((224, 224)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
}


def looks_of(images: list[Image.Image]) -> list[bytes | None]:
    return [look_of(image) for image in images]


def saved_anew(image: Image.Image, quality: int = 60) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.fixture(scope="module")
def photos(shared_dir: Path) -> list[Image.Image]:
    paths = sorted((shared_dir / "data/voc-sample/VOC2012/JPEGImages").glob("*.jpg"))[:40]
    return [Image.open(path).convert("RGB") for path in paths]


@pytest.mark.parametrize("change", CHANGES)
def test_find_look_alikes__finds_every_changed_copy_of_real_photos(
    photos: list[Image.Image], change: str
) -> None:
    copies = [saved_anew(CHANGES[change](photo)) for photo in photos]
    found = find_look_alikes(looks_of(copies[::-1]), looks_of(photos))
    assert [(pair.index, pair.other) for pair in found] == [
        (index, len(photos) - 1 - index) for index in range(len(photos))
    ]
    assert max(pair.distance for pair in found) <= 8


def test_find_look_alikes__takes_no_other_photo_for_a_copy(photos: list[Image.Image]) -> None:
    looks = looks_of(photos)
    assert find_look_alikes(looks[:20], looks[20:]) == []


def test_find_look_alikes__the_repeated_photos_of_the_clothing_set(ccp: Path) -> None:
    """Photos that a person has looked at: four pairs are one picture, three have but similar hashes."""
    numbers = ["0594", "0343", "0183", "0907", "0028", "0747", "1092"]
    others = ["0722", "1083", "0730", "0990", "2085", "0981", "1687"]
    first, second = (
        [look_of(Image.open(ccp / "photos" / f"{number}.jpg").convert("RGB")) for number in part]
        for part in (numbers, others)
    )
    assert [(pair.index, pair.other) for pair in find_look_alikes(first, second)] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_find_look_alikes__gives_the_most_similar_and_passes_over_the_missing(
    photos: list[Image.Image],
) -> None:
    one, two = photos[:2]
    others = [None, look_of(two), look_of(CHANGES["brighter"](one)), look_of(one)]
    assert find_look_alikes([None, look_of(one)], others) == [LookAlike(1, 3, 0)]
    assert find_look_alikes([], others) == find_look_alikes(others, []) == []


def test_find_look_alikes__images_of_one_colour_look_like_nothing() -> None:
    flat = [look_of(Image.new("RGB", (40, 30), colour)) for colour in ("white", "white", "black")]
    assert find_look_alikes(flat, flat) == []
    noise = np.random.default_rng(0).normal(250, 2, (30, 40, 3)).clip(0, 255).astype(np.uint8)
    assert find_look_alikes([look_of(Image.fromarray(noise))] * 2, [look_of(Image.fromarray(noise))]) == []


def test_find_look_alikes__the_distance_counts_the_bits_that_differ(photos: list[Image.Image]) -> None:
    look = look_of(photos[0])
    changed = bytes([look[0] ^ 0b10100000, *look[1:]])
    assert find_look_alikes([look], [changed]) == [LookAlike(0, 0, 2)]
    far = bytes([look[0] ^ 0xFF, look[1] ^ 0b11111000, *look[2:]])
    assert find_look_alikes([look], [far]) == []


def test_look_of__the_bits_are_those_of_a_plain_cosine_transform(photos: list[Image.Image]) -> None:
    from scipy.fft import dctn

    small = np.asarray(photos[3].resize((32, 32), Image.Resampling.BILINEAR, reducing_gap=3.0), np.float64)
    grey = small @ [0.299, 0.587, 0.114]
    waves = dctn(grey)[:8, :8].ravel()
    expected = waves > np.median(waves[1:])
    np.testing.assert_array_equal(np.unpackbits(np.frombuffer(look_of(photos[3])[:8], np.uint8)), expected)


def test_read_looks__decodes_at_a_part_of_the_size_and_skips_what_is_broken(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    large = photos[0].resize((2000, 1500))
    large.save(tmp_path / "0.jpg")
    (tmp_path / "1.jpg").write_bytes(b"no image")
    samples = [Sample(tmp_path / "0.jpg"), Sample(tmp_path / "1.jpg"), Sample(tmp_path / "2.jpg")]
    dataset = Dataset(LabelSet(["a"]), samples, tmp_path, "table")
    for num_workers in (0, 1):
        ((look, *others),) = read_looks(dataset, np.arange(3), num_workers=num_workers, timeout_seconds=30.0)
        assert others == [None, None]
        assert [pair.other for pair in find_look_alikes([look], looks_of(photos))] == [0]
