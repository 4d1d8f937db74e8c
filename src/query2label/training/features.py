"""The feature maps of a frozen backbone, computed once and kept on disk.

Each view of a data set is one array (n, C, H, W) in a `FeatureStore`. View 0 is the image as evaluation sees
it, in float32, so that scores from the cache are those of the whole model; the other views are augmented
training images, in float16, whose rounding (one part in 2,000) is far below what augmentation changes. All
are computed in float32, whatever the precision of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from query2label.config import RunConfig, TrainConfig
from query2label.data.randomness import derive_seed
from query2label.data.samples import Dataset
from query2label.errors import ConfigError
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec
from query2label.training.feature_entry import ArraySpec, Entry, EntryWriter
from query2label.training.feature_store import FeatureStore, gigabytes
from query2label.training.feature_task import FeatureTask, Role

Progress = Callable[[int, int], None]
"""Told (views of images done, all of them); it may raise to stop, and what is done is kept."""


class FeatureCache:
    """Feature maps of a data set's images, in one or several views.

    The files are not removed while the object lives.

    Args:
        entries: One array per view.
        broken: Index -> reason, for images that cannot be read.
    """

    def __init__(self, entries: Sequence[Entry], broken: Mapping[int, str]) -> None:
        self._entries = entries
        self.broken = dict(broken)
        """Index -> reason."""
        self.replacement = _replacements(len(self), broken)
        """For each index, the sample whose features `load` gives and whose targets belong to them (n,):
        itself, or for a broken image another one that its index chooses."""

    def __len__(self) -> int:
        return len(self._entries[0].array)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a feature map."""
        _, channels, height, width = self._entries[0].array.shape
        return channels, height, width

    @property
    def num_views(self) -> int:
        """Number of views; view 0 is the plain image."""
        return len(self._entries)

    def load(
        self, indices: Int64[np.ndarray, " b"], views: Int64[np.ndarray, " b"] | int = 0
    ) -> Float32[Tensor, "b C H W"]:
        """Feature maps on the CPU; a broken image has those of its `replacement`.

        Args:
            indices: Samples of the data set.
            views: Which view of each, or of all.
        """
        rows = self.replacement[indices]
        wanted = np.broadcast_to(np.asarray(views), indices.shape)
        features = torch.empty(len(indices), *self.shape)
        for view in np.unique(wanted).tolist():
            chosen = np.flatnonzero(wanted == view)
            # Indexing copies the rows out of the mapped file.
            features[torch.from_numpy(chosen)] = torch.from_numpy(
                self._entries[view].array[rows[chosen]]
            ).float()
        return features


def build_feature_cache(
    model: Query2Label,
    dataset: Dataset,
    spec: PreprocessSpec,
    config: RunConfig,
    *,
    role: Role,
    device: torch.device,
    on_progress: Progress | None = None,
) -> FeatureCache:
    """The feature maps of all images: from the cache, or computed now and put there.

    Several processes may call this at once: one computes an array, the others wait for it. A computation
    that was stopped goes on where it was, at the latest ten seconds back.

    Args:
        model: On `device`; its backbone is frozen.
        dataset: The images.
        spec: What the model sees.
        config: Augmentation, seed, workers, and the bounds of the cache.
        role: `train` gives `train.cache_views` views, `val` only view 0.
        device: Where the backbone runs.
        on_progress: Told about the progress, also while another process computes.

    Features that are not finite are a `TrainingError`, too many broken training images a `DataError`, a cache
    that cannot hold the arrays a `ConfigError`, and a full disk a `StorageError`.
    """
    task = FeatureTask(model, dataset, spec, config, role, device)
    specs = task.array_specs()
    store = FeatureStore(cache_folder(config.train), max_bytes=round(config.train.cache_max_gb * 1e9))
    _require_fits(specs, store)
    total = len(specs) * len(dataset)

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, total)

    store.reserve(specs, on_wait=lambda: report(0))
    entries = [
        _open(store, task, array_spec, view=view, report=report) for view, array_spec in enumerate(specs)
    ]
    broken = {index: reason for entry in entries for index, reason in entry.broken.items()}
    task.check_broken(broken)
    report(total)
    return FeatureCache(entries, dict(sorted(broken.items())))


def cache_folder(config: TrainConfig) -> Path:
    """Where the feature cache is: `train.cache_dir`, else query2label/features in the user's cache folder."""
    if config.cache_dir is not None:
        return config.cache_dir.expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "query2label" / "features"


def _open(
    store: FeatureStore, task: FeatureTask, spec: ArraySpec, *, view: int, report: Callable[[int], None]
) -> Entry:
    def advance(done: int) -> None:
        report(view * len(task.dataset) + done)

    def build(writer: EntryWriter) -> None:
        advance(writer.done)
        task.build(writer, view, advance)

    return store.open(spec, build, on_wait=advance)


def _require_fits(specs: Sequence[ArraySpec], store: FeatureStore) -> None:
    needed = sum(spec.num_bytes for spec in specs)
    if needed > store.max_bytes:
        raise ConfigError(
            f"The feature maps of {specs[0].shape[0]} images in {len(specs)} views need {gigabytes(needed)}, "
            f"more than train.cache_max_gb allows ({gigabytes(store.max_bytes)}): set it to at least "
            f"{gigabytes(needed)}, or lower train.cache_views or data.image_size."
        )


def _replacements(num_images: int, broken: Mapping[int, str]) -> Int64[np.ndarray, " n"]:
    replacement = np.arange(num_images, dtype=np.int64)
    good = np.setdiff1d(replacement, np.array(list(broken), dtype=np.int64))
    for index in broken:
        replacement[index] = good[derive_seed("feature replacement", index) % len(good)]
    return replacement
