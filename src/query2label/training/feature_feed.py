"""Cached feature maps of a frozen backbone as inputs: what is trained is the head alone."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from query2label.config import RunConfig
from query2label.data.randomness import derive_seed
from query2label.models.query2label import Query2Label
from query2label.training.features import FeatureCache
from query2label.training.feeds import Feed, TrainingInputs
from query2label.training.plan import Indices
from query2label.training.run_data import RunData


class FeatureFeed(Feed):
    """Cached feature maps.

    Each epoch shows one view of each training image, which seed, epoch and image choose: view 0 is the plain
    image, the others are augmented.
    """

    network_prefix = "head."

    def __init__(
        self,
        model: Query2Label,
        data: RunData,
        config: RunConfig,
        *,
        device: torch.device,
        train_cache: FeatureCache,
        val_cache: FeatureCache,
    ) -> None:
        self.network: nn.Module = model.head
        self._config, self._device = config, device
        self._train_cache = train_cache
        self._val_cache = val_cache
        self._targets = torch.from_numpy(data.train.targets()).float()

    def training(
        self, shares: Sequence[Indices], *, epoch: int, first: int
    ) -> Generator[TrainingInputs, None, None]:
        """This process's shares of the batches of an epoch, from batch `first` on."""
        for indices in shares[first:]:
            features = self._train_cache.load(indices, self._views(indices, epoch=epoch))
            shown = self._train_cache.replacement[indices]
            targets = self._targets[torch.from_numpy(shown)]
            yield features.to(self._device), targets.to(self._device), shown

    def plain_features(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """The plain view of training images; a broken image has that of another one, and its targets."""
        for batch in self._batches(indices):
            yield self._train_cache.load(batch), self._train_cache.replacement[batch]

    def validation(self, indices: Indices) -> Generator[tuple[Tensor, Indices], None, None]:
        """Feature maps of the validation images in order; broken images are left out."""
        for batch in self._validation_batches(indices):
            yield self._val_cache.load(batch).to(self._device), batch

    def num_validation_batches(self, indices: Indices) -> int:
        """How many batches `validation` gives."""
        return len(self._validation_batches(indices))

    def _validation_batches(self, indices: Indices) -> list[Indices]:
        return self._batches(indices[[index not in self._val_cache.broken for index in indices.tolist()]])

    def _batches(self, indices: Indices) -> list[Indices]:
        size = self._config.train.batch_size
        return [indices[first : first + size] for first in range(0, len(indices), size)]

    def _views(self, indices: Indices, *, epoch: int) -> Indices:
        seed, num_views = self._config.train.seed, self._train_cache.num_views
        return np.array([derive_seed("view", seed, epoch, index) % num_views for index in indices.tolist()])
