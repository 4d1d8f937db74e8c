"""What batches hold, whatever the number of workers and whatever happens to them."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import query2label.data.loaders as loaders
from query2label.config import AugmentConfig, DataConfig
from query2label.data.augment import TrainTransform
from query2label.data.broken import BrokenImages
from query2label.data.loaders import Batch, EvalBatches, TrainBatches, normalize_pixels
from query2label.data.randomness import derive_seed
from query2label.data.samples import Dataset, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet
from query2label.preprocess import PreprocessSpec, load_image, normalize, preprocess

SPEC = PreprocessSpec(image_size=(16, 20))
AUGMENT = AugmentConfig(crop_min_area=0.5)
BATCHES = [np.array(part) for part in ([3, 1, 4], [11, 5], [9, 2, 6], [0, 7, 8, 10])]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twelve noise images; image i shows label i mod 3, and label 3 is unknown in the even ones."""
    samples = []
    for index in range(12):
        path = tmp_path / f"{index}.png"
        noise = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        samples.append(Sample(path, positive=(index % 3,), unknown=(3,) if index % 2 == 0 else ()))
    return Dataset(LabelSet("abcd"), samples, tmp_path, "table")


def train_batches(dataset: Dataset, **changes: Any) -> TrainBatches:
    settings: dict[str, Any] = {"num_workers": 0, "max_broken_fraction": 0.5, "augment": AUGMENT}
    arguments: dict[str, Any] = {"batches": BATCHES, "epoch": 2, "seed": 7}
    for name, value in changes.items():
        (arguments if name in {"batches", "epoch", "seed", "broken", "pin_memory"} else settings)[name] = (
            value
        )
    return TrainBatches(dataset, SPEC, DataConfig(**settings), **arguments)


def assert_equal(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.targets, other.targets)
        np.testing.assert_array_equal(batch.indices, other.indices)


def test_train_batches__hold_augmented_pixels_targets_and_indices(dataset: Dataset) -> None:
    batches = list(train_batches(dataset))
    assert [batch.indices.tolist() for batch in batches] == [part.tolist() for part in BATCHES]
    transform = TrainTransform(SPEC, AUGMENT)
    targets = dataset.targets().astype(np.float32)
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        for image, index in zip(batch.images, batch.indices, strict=True):
            pixels = load_image(dataset.samples[index].path)
            seed = derive_seed("augment", 7, 2, int(index))
            assert torch.equal(image, transform(pixels, seed=seed))
        np.testing.assert_array_equal(batch.targets.numpy(), targets[batch.indices])


def test_normalize_pixels__is_what_evaluation_does_channels_last() -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    sent = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    images = normalize_pixels(sent, SPEC, device=torch.device("cpu"))
    assert images.is_contiguous(memory_format=torch.channels_last)
    for image, own in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(image.numpy(), normalize(own, SPEC))
    np.testing.assert_array_equal(sent.permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_train_batches__do_not_depend_on_the_workers(dataset: Dataset, num_workers: int) -> None:
    for damaged in (False, True):
        if damaged:
            dataset.samples[5].path.write_bytes(b"no image")
        assert_equal(
            list(train_batches(dataset)),
            list(train_batches(dataset, num_workers=num_workers)),
        )


def test_train_batches__go_on_at_any_batch(dataset: Dataset) -> None:
    dataset.samples[2].path.unlink()
    whole = list(train_batches(dataset))
    for first in range(1, 5):
        rest = train_batches(dataset, batches=BATCHES[first:], num_workers=first % 3)
        assert len(rest) == 4 - first
        assert_equal(list(rest), whole[first:])


def test_train_batches__differ_between_epochs_and_seeds(dataset: Dataset) -> None:
    images = [
        next(iter(train_batches(dataset, epoch=epoch, seed=seed))).images
        for epoch, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_train_batches__an_empty_batch_stays_empty(dataset: Dataset) -> None:
    for num_workers in (0, 1):
        batches = [np.array([], dtype=np.int64), np.array([3])]
        empty, one = train_batches(dataset, batches=batches, num_workers=num_workers)
        assert empty.images.shape == (0, 3, 16, 20)
        assert empty.targets.shape == (0, 4)
        assert len(one.indices) == 1


def test_train_batches__replace_a_broken_image_and_its_targets(dataset: Dataset) -> None:
    dataset.samples[1].path.write_bytes(b"")
    broken = BrokenImages()
    batch = next(iter(train_batches(dataset, broken=broken)))
    assert batch.indices[[0, 2]].tolist() == [3, 4]
    replacement = int(batch.indices[1])
    assert replacement != 1
    targets = dataset.targets().astype(np.float32)
    np.testing.assert_array_equal(batch.targets.numpy(), targets[batch.indices])
    pixels = load_image(dataset.samples[replacement].path)
    seed = derive_seed("augment", 7, 2, 1)  # the broken image's own: not the same view twice
    assert torch.equal(batch.images[1], TrainTransform(SPEC, AUGMENT)(pixels, seed=seed))
    assert broken.to_dict() == {str(dataset.samples[1].path): "The file is empty."}


def test_train_batches__choose_other_replacements_in_other_epochs(dataset: Dataset) -> None:
    dataset.samples[1].path.unlink()
    chosen = {int(next(iter(train_batches(dataset, epoch=epoch))).indices[1]) for epoch in range(40)}
    assert len(chosen) > 6
    assert 1 not in chosen


def test_train_batches__bound_their_own_broken_images_alone(dataset: Dataset) -> None:
    dataset.samples[5].path.write_bytes(b"")
    broken = BrokenImages({f"validation/{number}.png": "The file is empty." for number in range(5)})
    assert len(list(train_batches(dataset, broken=broken, max_broken_fraction=0.1))) == len(BATCHES)
    assert len(broken) == 6


def test_train_batches__end_when_too_many_are_broken(dataset: Dataset) -> None:
    for index in (1, 2, 5):
        dataset.samples[index].path.write_bytes(b"no image")
    batches = iter(train_batches(dataset, max_broken_fraction=0.1, num_workers=1))
    assert next(batches).indices[0] == 3
    with pytest.raises(DataError, match=r"of 12 images are broken, more than the 10\.0% .*5\.png"):
        list(batches)


def test_train_batches__end_when_nothing_can_replace(dataset: Dataset) -> None:
    for sample in dataset.samples:
        sample.path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png is broken, and so were 49 other images.*q2l data check"):
        list(train_batches(dataset, max_broken_fraction=1.0))


def test_train_batches__pin_memory_where_told(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.dtype] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.dtype)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    next(iter(train_batches(dataset)))
    assert pinned == []
    next(iter(train_batches(dataset, pin_memory=True)))
    assert pinned == [torch.uint8, torch.float32]


def fatal(monkeypatch: pytest.MonkeyPatch, name: str, *, marker: Path | None, hang: bool = False) -> None:
    """Decoding this image kills the worker (or hangs it), as long as the marker file is not there."""

    def load(path: Path, **_: object) -> Image.Image:
        if path.name == name and not (marker and marker.exists()):
            if marker:
                marker.touch()
            if hang:
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        return load_image(path)

    monkeypatch.setattr(loaders, "load_image", load)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_train_batches__are_the_same_after_a_worker_was_killed(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    undisturbed = list(train_batches(dataset))
    fatal(monkeypatch, "2.png", marker=tmp_path / "killed")
    assert_equal(list(train_batches(dataset, num_workers=num_workers)), undisturbed)
    assert (tmp_path / "killed").exists()


def test_train_batches__name_the_image_that_kills_again(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal(monkeypatch, "2.png", marker=None)
    batches = iter(train_batches(dataset, num_workers=2))
    began = time.monotonic()
    with pytest.raises(
        DataError,
        match=r"A loader process was killed twice by signal 9 \(out of memory\?\) over \S+/2\.png: look at "
        r"that image, or remove it; also in its batch: \S+/9\.png, \S+/6\.png\.",
    ):
        list(batches)
    assert time.monotonic() - began < 10


def test_train_batches__name_the_image_that_hangs(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    fatal(monkeypatch, "11.png", marker=None, hang=True)
    batches = train_batches(dataset, num_workers=2, worker_timeout_seconds=1)
    began = time.monotonic()
    with pytest.raises(
        DataError, match=r"took longer than 1 seconds over \S+/11\.png: .*batch: \S+/5\.png\."
    ):
        list(batches)
    assert time.monotonic() - began < 10


def test_train_batches__name_a_bounded_number_of_images(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal(monkeypatch, "0.png", marker=None, hang=True)
    batches = train_batches(dataset, batches=[np.arange(12)], num_workers=1, worker_timeout_seconds=1)
    with pytest.raises(DataError, match=r"0\.png: .*/1\.png, \S+/2\.png.*/8\.png and 3 more\.$"):
        list(batches)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_eval_batches__are_what_preprocess_gives(dataset: Dataset, num_workers: int) -> None:
    batches = EvalBatches(dataset, SPEC, batch_size=5, num_workers=num_workers)
    assert len(batches) == 3
    results = list(batches)
    assert [batch.indices.tolist() for batch in results] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11],
    ]
    images = torch.cat([batch.images for batch in results])
    expected = np.stack([preprocess(sample.path, SPEC) for sample in dataset.samples])
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images.numpy(), expected)
    targets = torch.cat([batch.targets for batch in results])
    np.testing.assert_array_equal(targets.numpy(), dataset.targets())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_eval_batches__leave_broken_images_out_and_say_so(dataset: Dataset, num_workers: int) -> None:
    for index in (1, 4, 5, 6, 7):
        dataset.samples[index].path.write_bytes(b"")
    batches = EvalBatches(dataset, SPEC, batch_size=2, num_workers=num_workers)
    results = list(batches)
    assert [batch.indices.tolist() for batch in results] == [[0], [2, 3], [8, 9], [10, 11]]
    np.testing.assert_array_equal(results[0].images[0].numpy(), preprocess(dataset.samples[0].path, SPEC))
    np.testing.assert_array_equal(results[0].targets.numpy(), dataset.targets()[[0]])
    names = [Path(path).name for path in batches.broken.to_dict()]
    assert names == ["1.png", "4.png", "5.png", "6.png", "7.png"]


def test_eval_batches__take_some_samples_only(dataset: Dataset) -> None:
    results = list(EvalBatches(dataset, SPEC, batch_size=2, indices=np.array([7, 3, 5])))
    assert [batch.indices.tolist() for batch in results] == [[7, 3], [5]]
    np.testing.assert_array_equal(results[1].images[0].numpy(), preprocess(dataset.samples[5].path, SPEC))
    assert list(EvalBatches(dataset, SPEC, batch_size=2, indices=np.array([], dtype=np.int64))) == []


def test_eval_batches__name_the_image_that_hangs(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(source: Path, spec: PreprocessSpec) -> np.ndarray:
        if source.name == "3.png":
            time.sleep(600)
        return preprocess(source, spec)

    monkeypatch.setattr(loaders, "preprocess", hang)
    with pytest.raises(DataError, match=r"took longer than 1 seconds over \S+/3\.png"):
        list(EvalBatches(dataset, SPEC, batch_size=4, num_workers=1, timeout_seconds=1.0))
