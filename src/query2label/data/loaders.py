"""Batches of images for training and evaluation, decoded by worker processes.

What a batch holds depends on the data, the seed and the epoch alone: not on the number of workers, not on
where iteration began, not on a worker that died on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from PIL import Image
from torch import Tensor

from query2label.config import DataConfig
from query2label.data.augment import TrainTransform
from query2label.data.broken import BrokenImages
from query2label.data.randomness import derive_seed
from query2label.data.samples import Dataset
from query2label.data.workers import LostJobError, Report, ordered_results
from query2label.errors import DataError, ImageError
from query2label.preprocess import PreprocessSpec, load_image, preprocess

MAX_REPLACEMENTS: Final = 50
NUM_NAMED: Final = 8

Indices = npt.NDArray[np.int64]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images of a data set."""

    images: Shaped[Tensor, "B 3 H W"]
    """uint8 in 0..255, channels last, from `TrainBatches`; normalized float32 from `EvalBatches`."""
    targets: Float32[Tensor, "B K"]
    """1, 0, or -1 where unknown."""
    indices: Int64[np.ndarray, " B"]
    """Which sample of the data set each image is, replacements for broken ones included."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What a worker hands back; `broken` has (sample index, reason)."""

    images: npt.NDArray[np.generic]
    indices: Indices
    broken: list[tuple[int, str]]


def normalize_pixels(
    pixels: UInt8[Tensor, "B 3 H W"], spec: PreprocessSpec, *, device: torch.device
) -> Float32[Tensor, "B 3 H W"]:
    """Images on a device, channels last, by the formula of `preprocess.normalize`.

    Bytes are sent to the device, which makes them numbers there.
    """
    # A row of the image at a time: three channels in the innermost place are too few for vector instructions.
    std, mean = np.array(spec.std), np.array(spec.mean)
    width = pixels.shape[3]
    scale = torch.from_numpy(np.tile((1 / (255 * std)).astype(np.float32), width)).to(device)
    offset = torch.from_numpy(np.tile((mean / std).astype(np.float32), width)).to(device)
    sent = pixels.to(device, non_blocking=True).permute(0, 2, 3, 1)
    rows = sent.flatten(2).float().mul_(scale).sub_(offset)
    return rows.view(sent.shape).permute(0, 3, 1, 2)


class TrainBatches:
    """The batches of one epoch, or of the rest of it: augmented uint8 images.

    A broken image is recorded and replaced, image and targets, by another sample that seed, epoch and index
    choose. A worker that dies is replaced and the batch done again, once.

    Args:
        dataset: Where the samples are.
        spec: What the model sees.
        config: Augmentation, workers, time-out, and the share of broken images that is tolerated.
        batches: Sample indices of each batch, of this process only; an empty batch gives an empty one.
        epoch: From 0; with `seed` and a sample's index it decides the augmentation.
        seed: Of the run.
        broken: Ledger to write to; the share of this data set's samples that it names is bounded.
        pin_memory: Give page-locked tensors, for copies to a GPU that do not block.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: PreprocessSpec,
        config: DataConfig,
        *,
        batches: Sequence[Indices],
        epoch: int,
        seed: int,
        broken: BrokenImages | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.batches = batches
        self.broken = BrokenImages() if broken is None else broken
        self.pin_memory = pin_memory
        transform = TrainTransform(spec, config.augment)
        self._work = _TrainWork(dataset, transform, epoch=epoch, seed=seed)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order.

        Too many broken images, a batch that kills its worker twice, and one that takes longer than the
        time-out, are each a `DataError` that names the images.
        """
        decoded = decode_all(
            self._work,
            self.batches,
            dataset=self.dataset,
            num_workers=self.config.num_workers,
            timeout_seconds=self.config.worker_timeout_seconds,
        )
        for part in decoded:
            if part.broken:
                _record(part, self.dataset, self.broken)
                own = self.broken.among(sample.path for sample in self.dataset.samples)
                own.check(self.config.max_broken_fraction, len(self.dataset))
            last = replace(part, images=part.images.transpose(0, 3, 1, 2))
            yield _to_batch(last, self.dataset, pin_memory=self.pin_memory)


class EvalBatches:
    """Samples in order, through the evaluation path: normalized float32 images.

    A broken image is recorded and left out; a batch of nothing else is not given at all.

    Args:
        dataset: Where the samples are.
        spec: What the model sees.
        batch_size: Images per batch; the last may have fewer.
        num_workers: Processes that decode; 0 decodes in this one.
        timeout_seconds: Longest wait for a batch; 0 waits for ever.
        indices: Which samples; all where it is None.
        broken: Ledger to write to.
        pin_memory: Give page-locked tensors, for copies to a GPU that do not block.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: PreprocessSpec,
        *,
        batch_size: int,
        num_workers: int = 0,
        timeout_seconds: float = 0.0,
        indices: Indices | None = None,
        broken: BrokenImages | None = None,
        pin_memory: bool = False,
    ) -> None:
        order = np.arange(len(dataset)) if indices is None else indices
        self.dataset = dataset
        self.batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        self.num_workers = num_workers
        self.timeout_seconds = timeout_seconds
        self.broken = BrokenImages() if broken is None else broken
        self.pin_memory = pin_memory
        self._work = _EvalWork(dataset, spec)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order.

        A batch that kills its worker twice, and one that takes longer than the time-out, are each a
        `DataError` that names the images.
        """
        for part in decode_all(
            self._work,
            self.batches,
            dataset=self.dataset,
            num_workers=self.num_workers,
            timeout_seconds=self.timeout_seconds,
        ):
            _record(part, self.dataset, self.broken)
            if len(part.indices):
                yield _to_batch(part, self.dataset, pin_memory=self.pin_memory)


class _TrainWork:
    """Decodes and augments one batch, in a worker."""

    def __init__(self, dataset: Dataset, transform: TrainTransform, *, epoch: int, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.epoch = epoch
        self.seed = seed

    def __call__(self, indices: Indices, report: Report) -> _Decoded:
        images = np.empty((len(indices), *self.transform.spec.image_size, 3), dtype=np.uint8)
        used = np.empty(len(indices), dtype=np.int64)
        broken: list[tuple[int, str]] = []
        for slot, index in enumerate(indices.tolist()):
            image, used[slot] = self._load(index, broken, report)
            seed = derive_seed("augment", self.seed, self.epoch, index)
            images[slot] = self.transform(image, seed=seed).permute(1, 2, 0).numpy()
        return _Decoded(images, used, broken)

    def _load(self, index: int, broken: list[tuple[int, str]], report: Report) -> tuple[Image.Image, int]:
        candidate = index
        for attempt in range(MAX_REPLACEMENTS):
            report(candidate)
            try:
                return load_image(self.dataset.samples[candidate].image_source()), candidate
            except ImageError as error:
                broken.append((candidate, str(error)))
            choice = derive_seed("replacement", self.seed, self.epoch, index, attempt)
            candidate = choice % len(self.dataset)
        raise DataError(
            f"{self.dataset.samples[index].path} is broken, and so were {MAX_REPLACEMENTS - 1} other images "
            f"tried in its place: run `q2l data check {self.dataset.source}`."
        )


class _EvalWork:
    """Decodes one batch as evaluation sees it, in a worker."""

    def __init__(self, dataset: Dataset, spec: PreprocessSpec) -> None:
        self.dataset = dataset
        self.spec = spec

    def __call__(self, indices: Indices, report: Report) -> _Decoded:
        images = np.empty((len(indices), 3, *self.spec.image_size), dtype=np.float32)
        good: list[int] = []
        broken: list[tuple[int, str]] = []
        for index in indices.tolist():
            report(index)
            try:
                images[len(good)] = preprocess(self.dataset.samples[index].image_source(), self.spec)
                good.append(index)
            except ImageError as error:
                broken.append((index, str(error)))
        return _Decoded(images[: len(good)], np.array(good, dtype=np.int64), broken)


def decode_all(
    work: Callable[[Indices, Report], Result],
    batches: Sequence[Indices],
    *,
    dataset: Dataset,
    num_workers: int,
    timeout_seconds: float,
) -> Iterator[Result]:
    """What `work` makes of each batch, in order, in processes of its own.

    Args:
        work: Does one batch; reports each sample before it begins with it.
        batches: Sample indices of each.
        dataset: Where the samples are.
        num_workers: Processes; 0 works in this one.
        timeout_seconds: Longest wait for a batch; 0 waits for ever.

    Raises:
        DataError: If a batch kills its worker twice or takes too long; names the images.
    """
    try:
        yield from ordered_results(work, batches, num_workers=num_workers, timeout_seconds=timeout_seconds)
    except LostJobError as lost:
        others = [index for index in batches[lost.position].tolist() if index != lost.item]
        paths = [str(dataset.samples[index].path) for index in others[:NUM_NAMED]]
        more = f" and {len(others) - NUM_NAMED} more" if len(others) > NUM_NAMED else ""
        at = "" if lost.item is None else f" over {dataset.samples[lost.item].path}"
        batch = f"; also in its batch: {', '.join(paths)}{more}" if paths else ""
        raise DataError(
            f"A loader process {lost.reason}{at}: look at that image, or remove it{batch}."
        ) from lost


def _record(part: _Decoded, dataset: Dataset, broken: BrokenImages) -> None:
    for index, reason in part.broken:
        broken.record(dataset.samples[index].path, reason)


def _to_batch(part: _Decoded, dataset: Dataset, *, pin_memory: bool) -> Batch:
    images = torch.from_numpy(part.images)
    targets = torch.from_numpy(_targets(dataset, part.indices))
    if pin_memory:
        images, targets = images.pin_memory(), targets.pin_memory()
    return Batch(images, targets, part.indices)


def _targets(dataset: Dataset, indices: Indices) -> npt.NDArray[np.float32]:
    targets = np.empty((len(indices), len(dataset.labels)), dtype=np.float32)
    for index, row in zip(indices.tolist(), targets, strict=True):
        dataset.samples[index].write_targets(row)
    return targets
