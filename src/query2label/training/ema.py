"""The running average of a model's weights, which is what gets validated and shipped."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def warmed_decay(step: int, *, decay: float) -> float:
    """The decay at a step: small at first, so that the random start is forgotten, then `decay`.

    Args:
        step: Number of the update, from 0.
        decay: The final decay, in [0, 1).

    Source:
        min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """An averaged copy of a network, in evaluation mode and out of autograd.

    Everything floating-point in its state is averaged: parameters that learn, and the statistics of norms,
    which then belong to the averaged weights. Counters are copied; what is frozen stays as it is.

    Args:
        network: What is trained; `average.network` is the copy to evaluate.
        decay: Final decay in [0, 1); see `warmed_decay`.

    Source:
        The authors and timm average the whole state likewise; the paper's decay is 0.9997.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        averaged, live = self.network.state_dict(), network.state_dict(keep_vars=True)
        floating = [name for name, value in live.items() if _changes(value) and value.is_floating_point()]
        self._averaged = [averaged[name] for name in floating]
        self._live = [live[name].detach() for name in floating]
        counters = [name for name, value in live.items() if _changes(value) and not value.is_floating_point()]
        self._counters = [(averaged[name], live[name]) for name in counters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the network's present weights, after optimizer step `step` (from 0)."""
        weight = 1 - warmed_decay(step, decay=self.decay)
        torch._foreach_lerp_(self._averaged, self._live, weight)
        for averaged, live in self._counters:
            averaged.copy_(live)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged network's state."""
        return dict(self.network.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors` gave."""
        self.network.load_state_dict(dict(tensors))


def _changes(value: Tensor) -> bool:
    return not isinstance(value, nn.Parameter) or value.requires_grad
