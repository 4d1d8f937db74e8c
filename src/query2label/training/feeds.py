"""Where the network's inputs come from: images, or cached feature maps of a frozen backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from query2label.config import RunConfig
from query2label.data.augment import mix_batch
from query2label.data.broken import BrokenImages
from query2label.data.loaders import EvalBatches, TrainBatches, normalize_pixels
from query2label.data.randomness import derive_seed
from query2label.data.samples import Dataset
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec
from query2label.training.plan import Indices
from query2label.training.run_data import RunData

TrainingInputs = tuple[Tensor, Tensor, Indices]
"""Inputs, targets (both on the device), and which training images they are."""


class Feed(ABC):
    """Gives the network that is trained its inputs."""

    network: nn.Module
    """What is trained: it takes the inputs and gives logits."""
    network_prefix: str
    """Where the network stands in the whole model, as its parameters' names begin."""

    @abstractmethod
    def training(
        self, shares: Sequence[Indices], *, epoch: int, first: int
    ) -> Generator[TrainingInputs, None, None]:
        """This process's shares of the batches of an epoch, from batch `first` on."""

    @abstractmethod
    def plain_features(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """Feature maps (b, C, H, W) of training images without augmentation, and whose targets are theirs."""

    @abstractmethod
    def validation(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """Validation inputs in order, with the numbers of their images; broken images are left out."""

    @abstractmethod
    def num_validation_batches(self, indices: Indices) -> int:
        """How many batches `validation` gives, broken images aside."""


class ImageFeed(Feed):
    """Augmented training images and plain validation images, decoded as training goes."""

    network_prefix = ""

    def __init__(
        self,
        model: Query2Label,
        data: RunData,
        spec: PreprocessSpec,
        config: RunConfig,
        *,
        device: torch.device,
        broken: BrokenImages,
    ) -> None:
        self.network: nn.Module = model
        self._model = model
        self._data, self._spec, self._config = data, spec, config
        self._device, self._broken = device, broken

    def training(
        self, shares: Sequence[Indices], *, epoch: int, first: int
    ) -> Generator[TrainingInputs, None, None]:
        """This process's shares of the batches of an epoch, from batch `first` on."""
        seed = self._config.train.seed
        batches = TrainBatches(
            self._data.train,
            self._spec,
            self._config.data,
            batches=shares[first:],
            epoch=epoch,
            seed=seed,
            broken=self._broken,
            pin_memory=self._device.type == "cuda",
        )
        for number, batch in enumerate(batches, start=first):
            targets = batch.targets.to(self._device, non_blocking=True)
            images = normalize_pixels(batch.images, self._spec, device=self._device)
            mixed = mix_batch(
                images,
                targets,
                config=self._config.data.augment,
                seed=derive_seed("mix", seed, epoch, number, int(shares[number][0])),
            )
            yield *mixed, batch.indices

    def plain_features(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """Feature maps of training images, by the backbone as it is now; broken images are left out."""
        model = self._model.optimize_for_inference(image_size=self._spec.image_size)
        for batch in self._plain_batches(self._data.train, indices):
            yield plain_features(model, batch.images, device=self._device), batch.indices

    def validation(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """Validation images in order, as prediction sees them."""
        for batch in self._validation_batches(indices):
            yield on_device(batch.images, self._device), batch.indices

    def num_validation_batches(self, indices: Indices) -> int:
        """How many batches `validation` gives, broken images aside."""
        return len(self._validation_batches(indices))

    def _validation_batches(self, indices: Indices) -> EvalBatches:
        return self._plain_batches(self._data.val, indices)

    def _plain_batches(self, dataset: Dataset, indices: Indices) -> EvalBatches:
        return plain_images(
            dataset, self._spec, self._config, indices=indices, device=self._device, broken=self._broken
        )


def on_device(images: Float[Tensor, "B 3 H W"], device: torch.device) -> Float[Tensor, "B 3 H W"]:
    """A copy of the images on a device, channels last.

    A fresh tensor is aligned in memory; what came through a worker's pipe need not be, and some kernels round
    differently then.
    """
    return images.to(device, copy=True, memory_format=torch.channels_last)


def plain_features(
    model: Query2Label, images: Float[Tensor, "B 3 H W"], *, device: torch.device
) -> Float[Tensor, "B C h w"]:
    """The feature maps of images, without a graph and in float32."""
    with torch.no_grad():
        return model.forward_features(on_device(images, device)).float()


def plain_images(
    dataset: Dataset,
    spec: PreprocessSpec,
    config: RunConfig,
    *,
    indices: Indices,
    device: torch.device,
    broken: BrokenImages,
) -> EvalBatches:
    """Images through the path that prediction takes."""
    return EvalBatches(
        dataset,
        spec,
        batch_size=config.train.batch_size,
        num_workers=config.data.num_workers,
        timeout_seconds=config.data.worker_timeout_seconds,
        indices=indices,
        broken=broken,
        pin_memory=device.type == "cuda",
    )
