"""Computing the feature maps of a data set, and naming everything that they depend on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from query2label.config import RunConfig
from query2label.data.broken import BrokenImages
from query2label.data.loaders import EvalBatches, TrainBatches, normalize_pixels
from query2label.data.samples import Dataset
from query2label.errors import DataError, TrainingError
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec
from query2label.training.feature_entry import ArraySpec, EntryWriter
from query2label.training.feature_store import KEY_LENGTH
from query2label.training.feeds import plain_features

Role = Literal["train", "val"]

FORMAT = 3
WITHOUT_EFFECT = {
    *("weights", "start_from", "freeze", "freeze_norm"),  # the weights themselves are part of the key
    *("head", "attention", "hidden_dim", "feedforward_dim", "num_heads", "num_encoder_layers"),
    *("num_decoder_layers", "feature_norm", "dropout", "first_self_attention", "other_self_attention"),
    *("csra_num_heads", "csra_lambda", "ml_decoder_num_groups", "keep_input_projection", "stored_position"),
    *("start_from_names", "start_from_photos"),
}
"""Model settings that do not change the backbone's features; a new setting does until it is named here."""
VIEW_SEED = 0
"""Of the augmented views: not the run's, so that runs of several seeds share the cache."""
PACKAGES = ("query2label", "torch", "torchvision", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class FeatureTask:
    """One frozen backbone's feature maps of one data set."""

    model: Query2Label
    dataset: Dataset
    spec: PreprocessSpec
    config: RunConfig
    role: Role
    device: torch.device

    def array_specs(self) -> list[ArraySpec]:
        """One per view: view 0 in float32, the augmented ones of `train` in float16."""
        features = self._forward(torch.zeros(1, 3, *self.spec.image_size))
        shape = (len(self.dataset), *features.shape[1:])
        plain = {
            "format": FORMAT,
            "backbone": self.config.model.model_dump(mode="json", exclude=WITHOUT_EFFECT),
            "weights_sha256": weights_digest(self.model.backbone),
            "device": self.device.type,
            "preprocess": self.spec.model_dump(mode="json"),
            "source": str(self.dataset.source.resolve()),
            "images_sha256": images_digest(self.dataset),
            "versions": {package: version(package) for package in PACKAGES},
        }
        augment = self.config.data.augment.model_dump(mode="json", exclude={"mixup_alpha", "cutmix_alpha"})
        specs = [_array_spec(shape, "float32", {**plain, "view": 0})]
        for view in range(1, self.config.train.cache_views if self.role == "train" else 1):
            random = {"view": view, "augment": augment, "seed": VIEW_SEED}
            specs.append(_array_spec(shape, "float16", {**plain, **random}))
        return specs

    def build(self, writer: EntryWriter, view: int, advance: Callable[[int], None]) -> None:
        """Computes the rows of one view that are missing.

        Args:
            writer: Takes the rows.
            view: 0 for the plain images, else which augmentation.
            advance: Told the number of rows done; may raise.

        Features that are not finite are a `TrainingError`, too many broken images a `DataError`.
        """
        ledger = BrokenImages()
        for asked, good, images in self._batches(view, writer.done, ledger):
            if len(good):
                features = self._forward(images).cpu()
                writer.write(good, self._rounded(features, good, view).numpy())
            for index in np.setdiff1d(asked, good).tolist():
                writer.broken[index] = ledger.reason(self.dataset.samples[index].path)
            self.check_broken(writer.broken)
            writer.finish(int(asked[-1]) + 1)
            advance(writer.done)

    def check_broken(self, broken: Mapping[int, str]) -> None:
        """Bounds the number of broken images (index -> reason).

        More broken training images than `data.max_broken_fraction` allows are a `DataError` as well.

        Raises:
            DataError: If all images are broken.
        """
        if self.role == "train":
            ledger = BrokenImages()
            for index, reason in broken.items():
                ledger.record(self.dataset.samples[index].path, reason)
            ledger.check(self.config.data.max_broken_fraction, len(self.dataset))
        if len(broken) == len(self.dataset):
            raise DataError(
                f"No image of {self.dataset.source} can be read: run `q2l data check {self.dataset.source}`."
            )

    def _batches(
        self, view: int, first: int, ledger: BrokenImages
    ) -> Iterator[tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " g"], Float[Tensor, "g 3 H W"]]]:
        """(indices of a batch, those that can be read, their normalized images), from `first` on."""
        size = -(-self.config.train.batch_size // self.config.train.accumulate)
        starts = range(first, len(self.dataset), size)
        batches = [np.arange(start, min(start + size, len(self.dataset))) for start in starts]
        if view:
            yield from self._augmented(batches, view, ledger)
        else:
            yield from self._plain(batches, size, ledger)

    def _plain(
        self, batches: list[np.ndarray], size: int, ledger: BrokenImages
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        plain = EvalBatches(
            self.dataset,
            self.spec,
            batch_size=size,
            num_workers=self.config.data.num_workers,
            timeout_seconds=self.config.data.worker_timeout_seconds,
            indices=np.concatenate([np.empty(0, np.int64), *batches]),
            broken=ledger,
        )
        remaining = iter(batches)
        for batch in plain:
            for asked in remaining:
                is_given = asked[0] <= batch.indices[0] <= asked[-1]  # one of broken images alone is not
                nothing = (batch.indices[:0], batch.images[:0])
                yield asked, *((batch.indices, batch.images) if is_given else nothing)
                if is_given:
                    break
        for asked in remaining:
            yield asked, asked[:0], torch.empty(0, 3, *self.spec.image_size)

    def _augmented(
        self, batches: list[np.ndarray], view: int, ledger: BrokenImages
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        augmented = TrainBatches(
            self.dataset,
            self.spec,
            self.config.data,
            batches=batches,
            epoch=view,
            seed=VIEW_SEED,
            broken=ledger,
        )
        for asked, batch in zip(batches, augmented, strict=True):
            good = batch.indices == asked  # the others were replaced, which is done on loading instead
            pixels = batch.images[torch.from_numpy(good)]
            yield asked, asked[good], normalize_pixels(pixels, self.spec, device=self.device)

    def _forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b C h w"]:
        return plain_features(self._for_inference, images, device=self.device)

    @functools.cached_property
    def _for_inference(self) -> Query2Label:
        """Gives the same maps in less than half the time, as prediction will."""
        return self.model.optimize_for_inference(image_size=self.spec.image_size)

    def _rounded(
        self, features: Float[Tensor, "b C h w"], indices: Int64[np.ndarray, " b"], view: int
    ) -> Float[Tensor, "b C h w"]:
        rounded = features.half() if view else features
        bad = torch.nonzero(~torch.isfinite(rounded).flatten(1).all(1)).flatten().tolist()
        if not bad:
            return rounded
        path = self.dataset.samples[indices[bad[0]]].path
        if torch.isfinite(features).all():
            raise TrainingError(
                f"The feature map of {path} has values up to {features[bad[0]].abs().max():.3g}, too large "
                "for the cache's 16-bit numbers: set train.cache_views=1 or train.cache_features=false."
            )
        raise TrainingError(
            f"The backbone gives NaN or infinity for {path}: its weights are damaged, or do not fit "
            f"{self.config.model.backbone}."
        )


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, forms and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def images_digest(dataset: Dataset) -> str:
    """SHA-256 over the images' order, names, sizes and times of change; a missing file counts as such."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        try:
            status = sample.file.stat()
            identity = (os.path.relpath(sample.path, dataset.source), status.st_size, status.st_mtime_ns)
        except OSError:
            identity = (os.path.relpath(sample.path, dataset.source), -1, -1)
        digest.update(json.dumps(identity).encode())
    return digest.hexdigest()


def _array_spec(shape: tuple[int, ...], dtype: str, description: dict[str, Any]) -> ArraySpec:
    text = json.dumps({**description, "shape": shape}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
    num_images, channels, height, width = shape
    return ArraySpec(key, (num_images, channels, height, width), dtype, description)
