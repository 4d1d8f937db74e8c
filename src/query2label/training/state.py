"""Where a run stands, and how it is put into a checkpoint and taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from query2label.errors import TrainingError
from query2label.training.engine import Learner
from query2label.training.metrics_log import Record
from query2label.training.optim import optimizer_tensors, restore_optimizer


@dataclass
class RunState:
    """Where a run stands, but for weights. The order of images and all randomness follow from it."""

    data_digest: str
    """Of labels, image names and targets: a run only goes on with the data that it began with."""
    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done, with their validation."""
    batch: int = 0
    """Steps done of the epoch in course."""
    loss_sum: float = 0.0
    """Sum of the losses of the images seen in this epoch."""
    num_images: int = 0
    """Images seen in this epoch."""
    seconds: float = 0.0
    """Time spent on them."""
    best_map: float | None = None
    best_epoch: int = 0
    """The epoch (from 1) of the best weights; 0 before the first validation."""
    stopped_early: bool = False
    """Whether patience ran out."""
    records: list[Record] = field(default_factory=list)
    """What metrics.jsonl says."""
    broken_images: dict[str, str] = field(default_factory=dict)
    """Path -> reason of images that could not be read."""
    cautions: list[str] = field(default_factory=list)
    """What was found when the run began that makes its results less sure than they look."""
    best_influence: Float[np.ndarray, " n"] | None = None
    """How much each validation image moves the best mAP: what the noise of a better one follows from."""

    @property
    def mean_loss(self) -> float:
        """Of the images seen in this epoch."""
        return self.loss_sum / max(self.num_images, 1)

    def count_step(self, loss: float, *, num_images: int, seconds: float) -> None:
        """One more step is done."""
        self.step += 1
        self.batch += 1
        self.loss_sum += loss * num_images
        self.num_images += num_images
        self.seconds += seconds

    def end_epoch(self, record: Record) -> None:
        """The epoch is done and validated."""
        self.records.append(record)
        self.epoch += 1
        if record["best"]:
            self.best_map, self.best_epoch = record["map"], self.epoch
        self.batch, self.loss_sum, self.num_images, self.seconds = 0, 0.0, 0, 0.0


def capture(model: nn.Module, learner: Learner, state: RunState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON values of a checkpoint.

    Args:
        model: The whole model.
        learner: What learns in it.
        state: Where the run stands.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optim/{name}": value for name, value in optimizer_tensors(learner.optimizer).items()}
    if learner.average is not None:
        tensors |= {f"ema/{name}": value for name, value in learner.average.tensors().items()}
    values = {**asdict(state), "scaler": learner.scaler.state_dict()}
    influence = values.pop("best_influence")
    if influence is not None:
        tensors["best/influence"] = torch.from_numpy(influence)
    return tensors, values


def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts the model's part of what `capture` gave back; a checkpoint of another one is a `TrainingError`."""
    with _explained_misfit():
        model.load_state_dict(_part(tensors, "model"))


def restore(learner: Learner, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> RunState:
    """Puts back the rest of what `capture` gave.

    A checkpoint that belongs to another model is a `TrainingError`.
    """
    if learner.average is not None:
        with _explained_misfit():
            learner.average.restore(_part(tensors, "ema"))
    restore_optimizer(learner.optimizer, _part(tensors, "optim"))
    values = dict(values)
    scaler = values.pop("scaler")
    if learner.scaler.is_enabled():
        learner.scaler.load_state_dict(scaler)
    influence = tensors.get("best/influence")
    return RunState(**values, best_influence=None if influence is None else influence.numpy())


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
    }


@contextlib.contextmanager
def _explained_misfit() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"The checkpoint does not fit the model of this version of query2label or timm ({reason}): "
            "resume with the versions named in environment.json."
        ) from error
