"""Augmentation: parity when it is off, determinism when it is on, and values of each part."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from query2label.config import AugmentConfig
from query2label.data.augment import TrainTransform, cut_out, mix_batch, random_crop_box
from query2label.data.randomness import generator
from query2label.preprocess import PreprocessSpec, resize_image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
SPEC = PreprocessSpec(image_size=(32, 24))
OFF = AugmentConfig(flip=0, randaugment_num_ops=0, cutout=0)
FULL = AugmentConfig(crop_min_area=0.2, randaugment_num_ops=2, cutout=0.4)


def config(**changes: float) -> AugmentConfig:
    return OFF.model_copy(update=changes)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_train_transform__turned_off_gives_what_evaluation_sees(resize: str, interpolation: str) -> None:
    spec = PreprocessSpec(image_size=(32, 24), resize=resize, interpolation=interpolation)
    pixels = TrainTransform(spec, OFF)(NOISE, seed=5)
    assert pixels.dtype == torch.uint8
    assert pixels.permute(1, 2, 0).is_contiguous()  # channels last, as convolutions like them
    seen = np.asarray(resize_image(NOISE, spec)).astype(int)
    difference = np.abs(pixels.permute(1, 2, 0).numpy() - seen)
    assert difference.max() <= 1
    assert difference.mean() < 0.1


def test_train_transform__depends_on_the_seed_alone() -> None:
    transform = TrainTransform(SPEC, FULL)
    first = [transform(NOISE, seed=seed) for seed in range(20)]
    torch.rand(3)
    again = [TrainTransform(SPEC, FULL)(NOISE, seed=seed) for seed in reversed(range(20))][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    assert len({one.numpy().tobytes() for one in first}) == 20


def test_train_transform__randaugment_alone_depends_on_the_seed() -> None:
    transform = TrainTransform(SPEC, config(randaugment_num_ops=2, randaugment_magnitude=20))
    results = {transform(NOISE, seed=seed).numpy().tobytes() for seed in range(30)}
    assert len(results) > 15


def test_train_transform__leaves_the_global_generators_alone() -> None:
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    TrainTransform(SPEC, FULL)(NOISE, seed=1)
    mix_batch(
        torch.zeros(4, 3, 8, 8),
        torch.zeros(4, 2),
        config=AugmentConfig(mixup_alpha=1, cutmix_alpha=1),
        seed=1,
    )
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_train_transform__leaves_the_image_alone() -> None:
    before = np.asarray(NOISE).copy()
    TrainTransform(PreprocessSpec(image_size=(40, 60)), FULL)(NOISE, seed=1)
    np.testing.assert_array_equal(np.asarray(NOISE), before)


def test_train_transform__flips_as_often_as_told() -> None:
    plain = TrainTransform(SPEC, OFF)(NOISE, seed=0)
    transform = TrainTransform(SPEC, config(flip=0.25))
    flips = 0
    for seed in range(400):
        result = transform(NOISE, seed=seed)
        if torch.equal(result, plain.flip(-1)):
            flips += 1
        else:
            assert torch.equal(result, plain)
    assert 70 <= flips <= 130
    assert torch.equal(TrainTransform(SPEC, config(flip=1))(NOISE, seed=9), plain.flip(-1))


def test_train_transform__crops_show_a_part() -> None:
    ramp = np.tile(np.linspace(0, 250, 200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    transform = TrainTransform(SPEC, config(crop_min_area=0.1))
    widths = []
    for seed in range(50):
        row = transform(Image.fromarray(ramp), seed=seed)[0, 10].int()
        assert (row.diff() >= 0).all()
        widths.append(int(row[-1] - row[0]))
    assert min(widths) < 100 < 120 < max(widths)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_cut_out__fills_one_hole_of_the_given_sides(share: float) -> None:
    centres = set()
    whole = 0
    for seed in range(400):
        pixels = np.zeros((20, 12, 3), dtype=np.uint8)
        cut_out(pixels, share, (1, 2, 3), generator(seed))
        rows, columns = np.nonzero(pixels[..., 0])
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == (1, 2, 3)).all()
        assert len(rows) == height * width  # one rectangle, nothing else
        assert height <= round(20 * share)
        assert width <= round(12 * share)
        whole += (height, width) == (round(20 * share), round(12 * share))
        centres.add((rows.min(), columns.min(), height, width))
    assert len(centres) > 100  # anywhere
    if share < 1:
        assert whole > 100 * (1 - share)


def test_train_transform__cuts_with_the_mean_colour() -> None:
    black = Image.new("RGB", (24, 32))
    pixels = TrainTransform(SPEC, config(cutout=0.5))(black, seed=3)
    colour = torch.tensor(SPEC.mean_colour(), dtype=torch.uint8)
    hole = pixels[0] > 0
    assert 8 * 6 <= int(hole.sum()) <= 16 * 12
    assert torch.equal(pixels[:, hole], colour[:, None].expand(-1, int(hole.sum())))


def test_random_crop_box__stays_inside_and_keeps_to_its_bounds() -> None:
    shares, aspects = [], []
    for seed in range(500):
        left, top, right, bottom = random_crop_box((300, 400), 0.3, generator(seed))
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        shares.append((right - left) * (bottom - top) / (300 * 400))
        aspects.append((right - left) / (bottom - top))
    assert 0.29 < min(shares) < 0.35
    assert 0.9 < max(shares) <= 1
    assert 0.74 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.35


def test_random_crop_box__takes_all_of_an_image_that_is_too_long() -> None:
    assert random_crop_box((1, 5000), 0.9, generator(0)) == (0, 0, 5000, 1)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 10, 8).clone()
    return images, torch.eye(6)


def test_mix_batch__turned_off_gives_its_arguments_back() -> None:
    images, targets = batch()
    mixed, soft = mix_batch(images, targets, config=OFF, seed=1)
    assert mixed is images
    assert soft is targets


def test_mix_batch__mixup_weighs_images_and_targets_alike() -> None:
    images, targets = batch()
    seen = set()
    for seed in range(20):
        mixed, soft = mix_batch(images, targets, config=config(mixup_alpha=0.8), seed=seed)
        # Image i is all i and shows label i: the mixture's value is the mean label by target.
        torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ torch.arange(6.0))
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(6))
        assert (mixed == mixed[:, :1, :1, :1]).all()
        seen.add(round(float(soft.max()), 3))
    assert len(seen) > 5
    assert torch.equal(images, batch()[0])


def test_mix_batch__cutmix_weighs_targets_by_the_area_as_cut() -> None:
    images, targets = batch()
    mixtures = 0
    for seed in range(40):
        mixed, soft = mix_batch(images, targets, config=config(cutmix_alpha=1.0), seed=seed)
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), soft @ torch.arange(6.0))
        for index in range(6):
            values = mixed[index, 0].unique().tolist()
            assert index in values or soft[index, index] == 0
            if len(values) == 2:
                mixtures += 1
                other = mixed[index, 0] != index
                rows, columns = other.any(dim=1).sum(), other.any(dim=0).sum()
                assert int(rows * columns) == int(other.sum())  # one rectangle
                assert torch.equal(mixed[index, 0], mixed[index, 2])
    assert mixtures > 50


def test_mix_batch__labels_of_both_images_stay_whole_and_unknown_stays_unknown() -> None:
    images = torch.randn(2, 3, 8, 8)
    targets = torch.tensor([[1.0, 1.0, 0.0, -1.0, -1.0], [1.0, 0.0, 0.0, 1.0, -1.0]])
    pairs = 0
    for seed in range(40):
        for kind in ("mixup_alpha", "cutmix_alpha"):
            _, soft = mix_batch(images, targets, config=config(**{kind: 1.0}), seed=seed)
            torch.testing.assert_close(soft[:, 0], torch.ones(2))
            assert (soft[:, 2] == 0).all()
            assert (soft[:, 4] == -1).all()
            assert soft[0, 3] == -1
            if soft[1, 3] == -1:  # mixed with the other image
                pairs += 1
                torch.testing.assert_close(soft[0, 1] + soft[1, 1], torch.tensor(1.0))
            else:
                torch.testing.assert_close(soft[:, 1], targets[:, 1])
    assert 20 < pairs < 60


def test_mix_batch__a_coin_decides_where_both_are_on() -> None:
    images, targets = batch()
    blended = 0
    for seed in range(100):
        mixed, _ = mix_batch(images, targets, config=config(mixup_alpha=1.0, cutmix_alpha=1.0), seed=seed)
        blended += not torch.equal(mixed, mixed.round())
    assert 30 < blended < 70


def test_mix_batch__depends_on_the_seed_alone() -> None:
    images, targets = batch()
    both = config(mixup_alpha=1.0, cutmix_alpha=1.0)
    for seed in range(5):
        one = mix_batch(images, targets, config=both, seed=seed)
        torch.rand(1)
        other = mix_batch(images, targets, config=both, seed=seed)
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_mix_batch__takes_a_batch_of_one_and_of_none() -> None:
    both = config(mixup_alpha=1.0, cutmix_alpha=1.0)
    for size in (0, 1):
        images, targets = torch.randn(size, 3, 4, 4), torch.ones(size, 2)
        mixed, soft = mix_batch(images, targets, config=both, seed=0)
        torch.testing.assert_close(mixed, images)
        torch.testing.assert_close(soft, targets)
