"""A hundredth of the photos is broken, in twelve ways: every image path goes on, and says the same twice."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from query2label.config import AugmentConfig, DataConfig
from query2label.data.broken import BrokenImages
from query2label.data.loaders import EvalBatches, TrainBatches
from query2label.data.randomness import epoch_order
from query2label.data.samples import Dataset, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet
from query2label.preprocess import PreprocessSpec

NUM_IMAGES = 1200
SPEC = PreprocessSpec(image_size=(16, 16))
SETTINGS = DataConfig(augment=AugmentConfig(randaugment_num_ops=0))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def huge_png() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def encoded(image: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


def float_tiff() -> bytes:
    return encoded(Image.fromarray(np.zeros((8, 8), dtype=np.float32)), "TIFF")


KINDS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "empty": lambda _jpeg, _png: b"",
    "zeros": lambda jpeg, _png: bytes(len(jpeg)),
    "text": lambda _jpeg, _png: b"this is no image\n",
    "html": lambda _jpeg, _png: b"<!DOCTYPE html><html><body>404</body></html>",
    "cut JPEG header": lambda jpeg, _png: jpeg[:20],
    "cut JPEG data": lambda jpeg, _png: jpeg[: len(jpeg) // 2],
    "cut PNG data": lambda _jpeg, png: png[: len(png) // 2],
    "wrong PNG checksum": lambda _jpeg, png: flipped(png, png.index(b"IDAT") + 20),
    "wrong signature": lambda _jpeg, png: flipped(png, 1),
    "bomb": lambda _jpeg, _png: huge_png(),
    "cut WebP": lambda jpeg, _png: encoded(Image.open(io.BytesIO(jpeg)), "WEBP")[:40],
    "floats": lambda _jpeg, _png: float_tiff(),
}


@pytest.fixture(scope="module")
def damaged(ccp: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, set[str]]:
    """1,200 samples over small real photos, of which twelve files are broken, and the paths of those."""
    assert len(KINDS) == NUM_IMAGES // 100
    folder = tmp_path_factory.mktemp("damaged")
    sources = sorted((ccp / "photos").iterdir())[:60]
    photos = []
    for source in sources:
        with Image.open(source) as image:
            photos.append(encoded(image.convert("RGB").resize((40, 60)), "JPEG"))
    samples = []
    for index in range(NUM_IMAGES):
        path = folder / f"{index:04}.jpg"
        path.write_bytes(photos[index % len(photos)])
        samples.append(Sample(path, positive=(index % 5,)))
    png = encoded(Image.open(io.BytesIO(photos[0])), "PNG")
    for number, damage in enumerate(KINDS.values()):
        samples[100 * number + 37].path.write_bytes(damage(photos[number], png))
    paths = {str(samples[100 * number + 37].path) for number in range(len(KINDS))}
    return Dataset(LabelSet("abcde"), samples, folder, "table"), paths


def epoch(
    dataset: Dataset, *, num_workers: int, number: int
) -> tuple[torch.Tensor, np.ndarray, BrokenImages]:
    order = epoch_order(len(dataset), seed=1, epoch=number)
    batches = TrainBatches(
        dataset,
        SPEC,
        SETTINGS.model_copy(update={"num_workers": num_workers}),
        batches=np.array_split(order, 10),
        epoch=number,
        seed=1,
    )
    results = list(batches)
    images = torch.cat([batch.images for batch in results])
    indices = np.concatenate([batch.indices for batch in results])
    targets = torch.cat([batch.targets for batch in results]).numpy()
    np.testing.assert_array_equal(targets, dataset.targets()[indices])
    return images, indices, batches.broken


def test_training__ends_with_each_broken_path_listed_once_and_twice_the_same(
    damaged: tuple[Dataset, set[str]],
) -> None:
    dataset, paths = damaged
    images, indices, broken = epoch(dataset, num_workers=2, number=0)
    assert len(images) == NUM_IMAGES
    assert set(broken.to_dict()) == paths
    order = epoch_order(NUM_IMAGES, seed=1, epoch=0)
    replaced = {str(dataset.samples[index].path) for index in order[indices != order]}
    assert replaced == paths
    again, indices_again, broken_again = epoch(dataset, num_workers=0, number=0)
    assert torch.equal(images, again)
    np.testing.assert_array_equal(indices, indices_again)
    assert broken.to_dict() == broken_again.to_dict()
    assert all(reason.endswith(".") and "/" not in reason for reason in broken.to_dict().values())


def test_training__stops_at_the_bound(damaged: tuple[Dataset, set[str]]) -> None:
    dataset, _ = damaged
    batches = TrainBatches(
        dataset,
        SPEC,
        SETTINGS.model_copy(update={"max_broken_fraction": 0.005}),
        batches=np.array_split(np.arange(NUM_IMAGES), 40),
        epoch=0,
        seed=1,
    )
    with pytest.raises(
        DataError, match=r"7 of 1200 images are broken, more than the 0\.5%.*0037\.jpg: The file"
    ):
        list(batches)


def test_evaluation__leaves_the_broken_out(damaged: tuple[Dataset, set[str]]) -> None:
    dataset, paths = damaged
    batches = EvalBatches(dataset, SPEC, batch_size=100, num_workers=2)
    results = list(batches)
    assert [len(batch.indices) for batch in results] == [99] * 12
    assert set(batches.broken.to_dict()) == paths
