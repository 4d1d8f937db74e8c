"""The whole configuration of a run: its sections, and what they ask of one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, model_validator

from query2label.config.data import DataConfig
from query2label.config.loss import LossConfig
from query2label.config.model import ModelConfig
from query2label.config.optim import OptimConfig
from query2label.config.section import Section
from query2label.config.train import TrainConfig


class RunConfig(Section):
    """Everything that defines a run."""

    model: ModelConfig = ModelConfig()
    """Backbone and head."""
    data: DataConfig = DataConfig()
    """Images, preprocessing and augmentation."""
    loss: LossConfig = LossConfig()
    """What is minimized."""
    optim: OptimConfig = OptimConfig()
    """AdamW and its schedule."""
    train: TrainConfig = TrainConfig()
    """The loop."""

    @model_validator(mode="after")
    def _cache_needs_frozen_backbone(self) -> RunConfig:
        if self.train.cache_features and self.model.freeze != "all":
            raise ValueError(
                'train.cache_features needs model.freeze = "all": features that change cannot be cached'
            )
        return self

    @model_validator(mode="after")
    def _cache_is_not_mixed(self) -> RunConfig:
        augment = self.data.augment
        if self.train.cache_features and (augment.mixup_alpha or augment.cutmix_alpha):
            raise ValueError(
                "data.augment.mixup_alpha and cutmix_alpha mix images, not cached feature maps, where mixing "
                "did not help: set both to 0, or train.cache_features to false"
            )
        return self


def settings() -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted name, pydantic field), in the order of the file."""
    yield from _settings_of(RunConfig, "")


def _settings_of(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
