"""One optimizer step, and scoring: plain functions on a network and tensors."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from query2label.losses import Loss
from query2label.training.distributed import Ranks
from query2label.training.ema import WeightAverage
from query2label.training.plan import micro_batches
from query2label.training.signals import STOP_SIGNALS

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Learner:
    """What learns: the network, as the processes share it, its optimizer and its average.

    In bf16 the gradients need no scaling; `scaler` is switched on for fp16 alone.
    """

    network: nn.Module
    """Whose parameters the optimizer holds."""
    wrapped: nn.Module
    """The same, averaging gradients over the processes."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    loss_function: Loss
    precision: Precision
    clip_norm: float
    accumulate: int
    ranks: Ranks


@dataclass(frozen=True)
class StepResult:
    """What a step did, the same in every process but for `is_loss_finite_here`."""

    loss: float
    """Mean over the images of all processes; may be non-finite."""
    gradient_norm: float
    """Before clipping."""
    is_finite: bool
    """Whether loss and gradient were; otherwise the weights were left as they are."""
    is_loss_finite_here: bool
    """Whether this process's part of the loss was finite."""
    stop_signal: int
    """The largest signal number that any process received, 0 for none."""


def take_step(
    learner: Learner,
    inputs: Float[Tensor, "B ..."],
    targets: Float[Tensor, "B K"],
    *,
    step: int,
    num_images: int,
    stop_signal: int = 0,
) -> StepResult:
    """Moves the weights by one step, and their average with them.

    Each process gives its share of the batch; each micro-batch's loss counts by its share of the whole
    batch, so the gradient is that of one process with one large batch. A loss or gradient that is not finite
    in any process leaves the weights of all as they are (norm statistics may be spoilt; save nothing then).
    With fp16, steps with overflowed gradients are skipped by the scaler instead, as usual, which halves the
    scale; where gradients overflow although nothing is scaled up any more, they are not finite.

    Args:
        learner: What learns.
        inputs: This process's images or features.
        targets: Their targets in [0, 1], negative where unknown.
        step: Number of the step in the run, from 0.
        num_images: Number of images in the whole batch, over all processes.
        stop_signal: A signal that this process received, or 0.
    """
    loss = _backward(learner, inputs, targets, num_images=num_images)
    learner.scaler.unscale_(learner.optimizer)
    norm = nn.utils.clip_grad_norm_(_parameters(learner), learner.clip_norm or math.inf, foreach=True)
    result = _agree(learner, loss, norm, stop_signal)
    if result.is_finite:
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
        if learner.average is not None:
            learner.average.update(step)
    learner.optimizer.zero_grad(set_to_none=True)
    return result


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision; does nothing for fp32."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def compiled(network: nn.Module) -> nn.Module:
    """The network with forward and backward pass fused by torch.compile, on the same parameters.

    Each size of batch is compiled for itself, so what a step gives depends on its batch alone, not on the
    sizes that a run, or a resumed one, has met before.
    """
    return cast(nn.Module, torch.compile(network, dynamic=False))


def _backward(learner: Learner, inputs: Tensor, targets: Tensor, *, num_images: int) -> Float[Tensor, ""]:
    total = torch.zeros((), device=inputs.device)
    # Equally many parts in all processes, which synchronized norms wait for: no more than the smallest share.
    smallest_share = num_images // learner.ranks.world_size
    parts = micro_batches(len(inputs), accumulate=min(learner.accumulate, smallest_share))
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        with _gradients_stay_here(learner.wrapped) if not is_last else contextlib.nullcontext():
            with autocast(inputs.device, learner.precision):
                logits = learner.wrapped(inputs[part])
            loss = learner.loss_function(logits.float(), targets[part]) * (len(logits) / num_images)
            torch.autograd.backward(learner.scaler.scale(loss * learner.ranks.world_size))
        total += loss.detach()
    return total


def _gradients_stay_here(wrapped: nn.Module) -> contextlib.AbstractContextManager[None]:
    if isinstance(wrapped, nn.parallel.DistributedDataParallel):
        return wrapped.no_sync()
    return contextlib.nullcontext()


def _agree(learner: Learner, loss: Tensor, norm: Tensor, stop_signal: int) -> StepResult:
    # The only wait for the device in a step, and the only message between processes beside the gradients.
    is_bad = ~torch.isfinite(loss)
    if not learner.scaler.is_enabled() or learner.scaler.get_scale() <= 1:
        is_bad |= ~torch.isfinite(norm)
    asked = torch.tensor([float(stop_signal == number) for number in STOP_SIGNALS], device=loss.device)
    mine = torch.cat([torch.stack([loss, norm, is_bad.float()]), asked]).double()
    total_loss, _, num_bad, *num_asked = learner.ranks.sum(mine.clone()).tolist()
    loss_here, gradient_norm, *_ = mine.tolist()
    signals = [int(number) for number, count in zip(STOP_SIGNALS, num_asked, strict=True) if count]
    return StepResult(
        loss=total_loss,
        gradient_norm=gradient_norm,
        is_finite=num_bad == 0,
        is_loss_finite_here=math.isfinite(loss_here),
        stop_signal=max(signals, default=0),
    )


def _parameters(learner: Learner) -> list[nn.Parameter]:
    return [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
