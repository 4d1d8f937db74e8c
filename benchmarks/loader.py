"""Images per second and core: our training loader against the usual Pillow and torchvision pipeline.

    python -m benchmarks.loader --data ../shared/data/voc-sample/VOC2012
    python -m benchmarks.loader --data ../shared/data/coco-sample --image-size 448
    python -m benchmarks.loader --data ../shared/data/voc-sample/VOC2012 --quick      # does it run?

Both load the same photos with one process: random resized crop, flip, RandAugment. The usual pipeline goes on
with ToTensor and Normalize, in PyTorch's DataLoader; ours hands over bytes, and normalizes a batch at once.
Both end with normalized float32 batches in this process. What is counted is the processor time of this
process and its loader, so that another program beside does not matter much. The two take turns; the table has
medians over the rounds. Then follow the parts, each for itself, in milliseconds per image.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.plain_training import PlainImages
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from query2label.allocator import keep_freed_memory
from query2label.config import AugmentConfig, DataConfig
from query2label.data.augment import TrainTransform
from query2label.data.fast_resize import resize_part
from query2label.data.load import load_dataset
from query2label.data.loaders import TrainBatches, normalize_pixels
from query2label.data.samples import Dataset
from query2label.preprocess import PreprocessSpec, load_image

AUGMENT = AugmentConfig(crop_min_area=0.25, cutout=0.0)
BATCH_SIZE = 32


def plain_batches(dataset: Dataset, spec: PreprocessSpec, *, num_workers: int) -> Iterator[Tensor]:
    """The usual pipeline."""
    images = PlainImages([sample.path for sample in dataset.samples], spec, AUGMENT)
    yield from DataLoader(images, batch_size=BATCH_SIZE, num_workers=num_workers)


def our_batches(dataset: Dataset, spec: PreprocessSpec, *, num_workers: int) -> Iterator[Tensor]:
    """The loader of `q2l train`."""
    order = np.arange(len(dataset))
    batches = [order[first : first + BATCH_SIZE] for first in range(0, len(order), BATCH_SIZE)]
    config = DataConfig(num_workers=num_workers, augment=AUGMENT)
    for batch in TrainBatches(dataset, spec, config, batches=batches, epoch=0, seed=0):
        yield normalize_pixels(batch.images, spec, device=torch.device("cpu"))


def cpu_seconds(batches: Iterable[Tensor]) -> float:
    """Processor time to take all batches, of this process and its loaders, which have ended by then."""

    def used() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    started = used()
    for _ in batches:
        pass
    return used() - started


def whole(dataset: Dataset, spec: PreprocessSpec, *, rounds: int, num_workers: int) -> Table:
    """Both loaders, in turns; one more round, not counted, warms up."""
    loaders = {"plain": plain_batches, "query2label": our_batches}
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, load in loaders.items():
            taken = cpu_seconds(load(dataset, spec, num_workers=num_workers))
            if number:
                seconds[name].append(taken)
    title = f"{len(dataset)} photos, {spec.image_size[0]} px, {num_workers} loader process, {rounds} rounds"
    table = Table("loader", "images per second and core", "x plain (range)", title=title)
    for name in loaders:
        ratios = [plain / own for plain, own in zip(seconds["plain"], seconds[name], strict=True)]
        table.add_row(
            name,
            f"{len(dataset) / statistics.median(seconds[name]):.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        )
    return table


def parts(dataset: Dataset, spec: PreprocessSpec, *, rounds: int) -> Table:
    """What each part takes, in this process."""
    contents = [sample.path.read_bytes() for sample in dataset.samples]
    images = [load_image(content) for content in contents]
    side = spec.image_size
    resized = [image.resize((side[1], side[0]), Image.Resampling.BILINEAR) for image in images]
    tensors = [transforms.ToTensor()(image) for image in resized]
    transform = TrainTransform(spec, AUGMENT)
    work: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "decode: Pillow": (lambda content: Image.open(io.BytesIO(content)).convert("RGB"), contents),
        "decode: ours, with its checks": (load_image, contents),
        "crop and resize: torchvision on Pillow": (transforms.RandomResizedCrop(side), images),
        "resize of all: Pillow": (
            lambda image: image.resize((side[1], side[0]), Image.Resampling.BILINEAR),
            images,
        ),
        "resize of all: ours": (
            lambda image: resize_part(image, (0, 0, image.width, image.height), side, spec),
            images,
        ),
        "RandAugment": (transforms.RandAugment(), resized),
        "ToTensor": (transforms.ToTensor(), resized),
        "Normalize": (transforms.Normalize(spec.mean, spec.std), tensors),
        "crop, resize, flip, RandAugment: ours": (lambda image: transform(image, seed=id(image)), images),
    }
    table = Table("part", "ms per image", title="parts")
    for name, (function, items) in (work | _torchcodec(contents)).items():
        taken = []
        for _ in range(rounds):
            started = time.process_time()
            for item in items:
                function(item)
            taken.append(time.process_time() - started)
        table.add_row(name, f"{1e3 * statistics.median(taken) / len(items):.2f}")
    return table


def _torchcodec(contents: list[bytes]) -> dict[str, tuple[Callable[[Any], object], list[Any]]]:
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, RuntimeError):  # RuntimeError: without FFmpeg's libraries
        return {}
    return {"decode: torchcodec (not used)": (decode_jpeg, contents)}


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="labelled photos")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=1000, help="at most so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="64 images, one round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `q2l train` does
    count, rounds = (64, 1) if options.quick else (options.images, options.rounds)
    dataset = load_dataset(options.data)
    dataset = replace(dataset, samples=dataset.samples[:count])
    spec = PreprocessSpec(image_size=(options.image_size, options.image_size))
    console = Console(width=100)
    console.print(whole(dataset, spec, rounds=rounds, num_workers=1))
    console.print(parts(dataset, spec, rounds=rounds))


if __name__ == "__main__":
    main()
