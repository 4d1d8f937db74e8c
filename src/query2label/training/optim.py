"""AdamW over the parts of a model: which parameters decay, and which learn slowly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from query2label.config import OptimConfig
from query2label.errors import TrainingError

QUERY_WORD = "quer"
"""In the own name of the label queries of every head that has some."""
NO_DECAY_WORDS = (QUERY_WORD, "embed", "position", "token", "bias", "relative")
"""A parameter whose own name holds one of these is an offset or a code, not a map: it does not decay."""

_STATE_NAMES = ("step", "exp_avg", "exp_avg_sq")


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter: to matrices and kernels only.

    Norms, biases, scales, label queries, class tokens and position codes are left alone.
    """
    own_name = name.rpartition(".")[2]
    return parameter.ndim >= 2 and not any(word in own_name for word in NO_DECAY_WORDS)


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig
) -> list[dict[str, object]]:
    """Optimizer groups of the parameters that learn, by rate and decay.

    Args:
        named: (name, parameter) in the model's order; names of the backbone begin with `backbone.`.
        config: Rates and decay.

    Returns:
        Groups with `params`, `names`, `peak_lr`, `lr` and `weight_decay`: backbone and head, each with and
        without decay, and label queries; empty ones are left out.

    Raises:
        TrainingError: If nothing learns.
    """
    groups: dict[tuple[bool, bool, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            is_backbone = name.startswith("backbone.")
            scale = config.backbone_lr_scale if is_backbone else _head_scale(name, config)
            key = (is_backbone, decays(name, parameter), config.lr * scale)
            groups.setdefault(key, []).append((name, parameter))
    if not groups:
        raise TrainingError("No parameter of the model learns: set model.freeze to none or stem.")
    result: list[dict[str, object]] = []
    for (_, has_decay, peak), members in sorted(groups.items()):
        result.append(
            {
                "params": [parameter for _, parameter in members],
                "names": [name for name, _ in members],
                "peak_lr": peak,
                "lr": peak,
                "weight_decay": config.weight_decay if has_decay else 0.0,
            }
        )
    return result


def _head_scale(name: str, config: OptimConfig) -> float:
    return config.query_lr_scale if QUERY_WORD in name.rpartition(".")[2] else 1.0


def build_optimizer(named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, in its fused form (one kernel, on CPU and GPU alike)."""
    groups = parameter_groups(named, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets each group's rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]


def set_beta1(optimizer: torch.optim.Optimizer, beta1: float) -> None:
    """Sets the decay of the first moment."""
    for group in optimizer.param_groups:
        group["betas"] = (beta1, group["betas"][1])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat names `<parameter name>/<exp_avg | exp_avg_sq | step>`."""
    return {
        f"{name}/{key}": optimizer.state[parameter][key]
        for name, parameter in _named_parameters(optimizer)
        if parameter in optimizer.state
        for key in _STATE_NAMES
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave.

    The values are copied into fresh tensors, so that they lie in memory as in a new run: some kernels round
    differently on unaligned memory, and the fused step takes for granted that moments are laid out as their
    parameter is.
    """
    for name, parameter in _named_parameters(optimizer):
        if f"{name}/step" in tensors:
            values = {key: tensors[f"{name}/{key}"] for key in _STATE_NAMES}
            optimizer.state[parameter] = {
                key: torch.empty_like(parameter if value.ndim else value, dtype=torch.float32).copy_(value)
                for key, value in values.items()
            }


def _named_parameters(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, nn.Parameter]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)
