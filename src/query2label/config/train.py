"""The section `train`: the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from query2label.config.section import PositiveInt, Section


class TrainConfig(Section):
    """The loop."""

    epochs: PositiveInt = 20
    """Passes over the training images."""
    batch_size: PositiveInt = 32
    """Images per optimizer step, over all processes and accumulated micro-batches."""
    accumulate: PositiveInt = 1
    """Micro-batches that a step is cut into to save memory."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random: the same seed gives the same weights."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision; fp16 needs a GPU."""
    compile: bool = False
    """Let torch.compile fuse the forward and backward pass: a minute or more before the first step, then
    faster ones. It needs a C++ compiler on the CPU."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9997
    """Decay of the averaged weights, warmed up from 0; 0 turns averaging off."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after so many epochs without a better mAP; 0 never stops early."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0
    """Save `last/` at each epoch's end and this often in between; 0 saves after every step."""
    cache_features: bool = False
    """Compute the frozen backbone's feature maps once, keep them on disk, and train only the head."""
    cache_views: PositiveInt = 2
    """Views of each training image in the feature cache: the plain image and augmented ones."""
    cache_dir: Path | None = None
    """Folder of the feature cache; unset: query2label in the user's cache folder."""
    cache_max_gb: Annotated[float, Field(gt=0)] = 20.0
    """Largest size of the feature cache; least recently used entries go first."""
    card_images: bool = False
    """Put a picture of a few validation images, with where the model looked, into the bundle and its card."""
    tensorboard: bool = False
    """Also write TensorBoard files into the run folder (extra `tensorboard`)."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of the main process; 0 leaves it to PyTorch."""

    @model_validator(mode="after")
    def _accumulation_fits(self) -> TrainConfig:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"train.accumulate ({self.accumulate}) is larger than train.batch_size ({self.batch_size})"
            )
        return self
