"""The sections `data` and `data.augment`: which images, and what they look like to the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from query2label.config.section import Section, UnitInterval
from query2label.formats import DataFormatOrAuto, Difficult
from query2label.preprocess import Interpolation, ResizeMode, Side, Spread


def _as_pair(size: object) -> object:
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


class AugmentConfig(Section):
    """What happens to a training image; evaluation images are never augmented."""

    flip: UnitInterval = 0.5
    """Probability of a horizontal flip."""
    crop_min_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of the area that a random resized crop keeps; 1 turns cropping off."""
    randaugment_num_ops: Annotated[int, Field(ge=0)] = 2
    """RandAugment operations per image; 0 turns it off."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the RandAugment operations (0-30)."""
    cutout: UnitInterval = 0.5
    """Side of the square that is cut out, as a share of the image's sides; 0 turns it off."""
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of mixup; 0 turns it off. Not with `train.cache_features`."""
    cutmix_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of cutmix; 0 turns it off. Not with `train.cache_features`."""


class DataConfig(Section):
    """Which images, and what they look like when the model sees them."""

    path: Path | None = None
    """Folder or file with the labelled images; the command line's `--data`."""
    format: DataFormatOrAuto = "auto"
    """Layout of the data; `auto` looks at the path."""
    image_root: Path | None = None
    """Folder of the images, where they do not lie beside their labels."""
    train_split: str = "train"
    """Name of the split to learn from, where the data have splits."""
    val_split: str = "val"
    """Name of the split to validate on; `test` is taken where there is no such split."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the images held out by a stratified split where the data have no splits of their own."""
    labelled_only: bool = False
    """Leave out images that show no label, as papers do on NUS-WIDE; they say that all labels are absent."""
    difficult: Difficult = "ignore"
    """What an object marked difficult (PASCAL VOC) says about its label; `ignore` makes it unknown."""
    image_size: Annotated[tuple[Side, Side], BeforeValidator(_as_pair)] = (224, 224)
    """(height, width) in pixels that the model sees; one number means a square."""
    resize: ResizeMode = "squash"
    """How an image gets that size: `squash` (as published), `letterbox` or `crop` (centre)."""
    interpolation: Interpolation | None = None
    """`bilinear` or `bicubic`, always antialiased; unset: as the backbone was pretrained."""
    mean: tuple[float, float, float] | None = None
    """RGB mean in [0, 1] that is subtracted; unset: as the backbone was pretrained."""
    std: tuple[Spread, Spread, Spread] | None = None
    """RGB standard deviation in [0, 1]; unset: as the backbone was pretrained."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of training images."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode and augment; results do not depend on it."""
    worker_timeout_seconds: Annotated[float, Field(ge=0)] = 120.0
    """A batch that takes longer ends the run and is named; 0 waits for ever."""
    max_broken_fraction: UnitInterval = 0.02
    """Share of broken training images that is tolerated (each is named and replaced); more ends the run."""
