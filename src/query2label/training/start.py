"""What a run begins with: its data, its model, and nothing on disk yet."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from pydantic import ValidationError
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor

from query2label.bundle import Bundle
from query2label.config import ModelConfig, RunConfig
from query2label.data.randomness import derive_seed
from query2label.errors import ConfigError
from query2label.models.build import build_model, preprocess_spec
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec
from query2label.training.distributed import Ranks
from query2label.training.environment import package_versions
from query2label.training.name_start import start_from_names
from query2label.training.plan import smallest_batch
from query2label.training.run_data import RunData, load_run_data
from query2label.training.transfer import Source, Transfer, transfer


@dataclass(frozen=True)
class Start:
    """What a run begins with, before anything is written."""

    data: RunData
    model: Query2Label
    spec: PreprocessSpec
    bundle: Bundle
    """Without weights, metrics, and fitted thresholds."""
    transfer: Transfer | None = None
    """What was taken over from another model."""
    names_note: str | None = None
    """What the labels' names gave, where they were asked."""


def build_start(
    config: RunConfig, *, ranks: Ranks, load_weights: bool, source: Source | None = None
) -> Start:
    """Reads the data and builds the model; whatever is wrong with them is found here.

    Args:
        config: The run.
        ranks: The processes.
        load_weights: Whether to load the backbone's pretrained weights; a checkpoint has its own.
        source: The trained model to start from instead.

    A setting that cannot work is a `ConfigError`, labelled images that cannot be used a `DataError`.
    """
    _check_precision(config, ranks)
    _check_compiler(config, ranks)
    data = load_run_data(config.data, seed=config.train.seed)
    _check_batches(config, data, ranks)
    torch.manual_seed(derive_seed("weights", config.train.seed))
    model = build_model(
        config.model,
        len(data.train.labels),
        load_weights=load_weights and source is None,
        image_size=config.data.image_size,
    )
    model.head.set_label_prior(label_prior(data.train.targets()))
    taken = names_note = None
    if config.model.start_from_names and load_weights and source is None:
        names_note = start_from_names(model, config.model, data.train)
    if source is not None:
        taken = transfer(model, data.train.labels.names, source, image_size=config.data.image_size)
    if ranks.world_size > 1 and ranks.device.type == "cuda":
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    spec = preprocess_spec(config, model.backbone)
    # Channels last is how convolutions are fastest, on CPU and GPU alike.
    model = model.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Start(data, model, spec, _bundle(config, data, spec), taken, names_note)


def label_prior(targets: Int8[np.ndarray, "n K"]) -> Float[Tensor, " K"]:
    """Share of the images that show each label, among those where it is known; 0.5 where it never is."""
    known = (targets >= 0).sum(axis=0)
    shown = (targets == 1).sum(axis=0)
    prior = np.where(known > 0, shown / np.maximum(known, 1), 0.5)
    return torch.from_numpy(prior.astype(np.float32))


def _check_precision(config: RunConfig, ranks: Ranks) -> None:
    if config.train.precision == "fp16" and ranks.device.type == "cpu":
        raise ConfigError("train.precision fp16 needs a GPU: take bf16 or fp32 on the CPU.")


def _check_compiler(config: RunConfig, ranks: Ranks) -> None:
    compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")  # what torch.compile looks for
    if config.train.compile and ranks.device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ConfigError(
            "train.compile needs a C++ compiler on the CPU, and there is none: install g++ (or name one in "
            "the environment variable CXX), or set train.compile=false."
        )


def _check_batches(config: RunConfig, data: RunData, ranks: Ranks) -> None:
    smallest = smallest_batch(len(data.train), batch_size=config.train.batch_size)
    if smallest < ranks.world_size:
        raise ConfigError(
            f"Batches of {smallest} images cannot be shared by {ranks.world_size} processes: raise "
            f"train.batch_size ({config.train.batch_size}) or start fewer processes."
        )


def _described(config: RunConfig, data: RunData) -> dict[str, Any]:
    """What the bundle says about the images; of folders on this machine only the last name."""
    shown = (data.train.targets() == 1).sum(axis=0).tolist()
    return {
        "name": None if config.data.path is None else config.data.path.name,
        "training_images": len(data.train),
        "validation_images": len(data.val),
        "training_images_per_label": dict(zip(data.train.labels.names, shown, strict=True)),
    }


def _bundle(config: RunConfig, data: RunData, spec: PreprocessSpec) -> Bundle:
    values = config.model_dump(mode="json")
    # Folders on this machine are nobody else's business.
    values["data"]["path"] = None if config.data.path is None else config.data.path.name
    values["data"]["image_root"] = None
    values["train"]["cache_dir"] = None
    values["model"]["weights"] = Path(config.model.weights).name
    start_from = config.model.start_from
    if start_from is not None and Path(start_from).is_absolute():  # a name on the hub is no folder here
        values["model"]["start_from"] = Path(start_from).name
    labels = data.train.labels.names
    try:
        return Bundle(
            model=ModelConfig.model_validate(values["model"]),
            labels=labels,
            preprocess=spec,
            thresholds=(0.5,) * len(labels),
            data=_described(config, data),
            run=values,
            versions=package_versions(),
        )
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"The trained model could not be saved: {reason}.") from None
