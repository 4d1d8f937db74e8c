"""Losses on logits and targets that are 1, 0, unknown (below 0) or soft (in between, from mixup).

Each is a sum over labels and a mean over images, computed from log-sigmoids in float32 at least, so that
half precision and logits of +-100 give finite values and wrong answers keep their gradient. An unknown target
adds exactly nothing to value and gradient. A NaN target is not unknown: the loss becomes NaN, for all to see.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from query2label.config import LossConfig

Loss = Callable[[Float[Tensor, "B K"], Float[Tensor, "B K"]], Float[Tensor, ""]]


def asymmetric_loss(
    logits: Float[Tensor, "B K"],
    targets: Float[Tensor, "B K"],
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 2.0,
    margin: float = 0.0,
) -> Float[Tensor, ""]:
    """Asymmetric focal loss, summed over labels and averaged over images.

    With p = sigmoid(logit) and q = max(p - margin, 0) a label costs
    `-[y (1-p)^gamma_pos log p + (1-y) q^gamma_neg log(1-q)]`: easy negatives are down-weighted, and negatives
    scored under `margin` add nothing. The focal weights carry no gradient. Nor does the flattening of
    log(1-q) by the margin, which would all but erase the gradient of a negative scored near 1: above the
    margin the gradient is `q^gamma_neg * p` with any margin.

    Args:
        logits: Before the sigmoid.
        targets: In [0, 1], or below 0 where unknown.
        gamma_pos: Focusing exponent of positives; 0 weighs them all alike.
        gamma_neg: Focusing exponent of negatives.
        margin: In [0, 1); negatives with a score under it are ignored.

    Returns:
        A scalar in the precision of the logits, float32 at least; 0 for an empty batch.

    Raises:
        ValueError: If an exponent is negative or `margin` is outside [0, 1).

    Source:
        Ben-Baruch et al. (2021), arXiv:2009.14119 (their `clip` is our `margin`), as used in Liu et al.
        (2021), arXiv:2107.10834. The authors scale by 1000 / K and clamp probabilities at 1e-5, which takes
        the gradient from a wrong logit beyond +-11.5; we do neither.
    """
    _require_non_negative(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
    if not 0 <= margin < 1:
        raise ValueError(f"margin is {margin}: it must be at least 0 and less than 1.")
    logits, targets, unknown = _known(logits, targets)
    positive = -functional.logsigmoid(logits)
    negative = functional.softplus(logits)
    missing, excess = torch.sigmoid(-logits.detach()), torch.sigmoid(logits.detach())
    if margin > 0:
        excess = (excess - margin).clamp(min=0)
        negative = negative.masked_fill(excess == 0, 0.0)
        shifted = -(missing + margin).clamp(max=1).log()
        negative = negative + (shifted - negative).detach()
    cost = targets * missing.pow(gamma_pos) * positive + (1 - targets) * excess.pow(gamma_neg) * negative
    return _reduce(cost, unknown)


def bce_loss(logits: Float[Tensor, "B K"], targets: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Binary cross-entropy, summed over labels and averaged over images.

    Args:
        logits: Before the sigmoid.
        targets: In [0, 1], or below 0 where unknown.

    Returns:
        A scalar in the precision of the logits, float32 at least; 0 for an empty batch.
    """
    logits, targets, unknown = _known(logits, targets)
    cost = -targets * functional.logsigmoid(logits) + (1 - targets) * functional.softplus(logits)
    return _reduce(cost, unknown)


def focal_loss(
    logits: Float[Tensor, "B K"],
    targets: Float[Tensor, "B K"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[Tensor, ""]:
    """Focal loss, summed over labels and averaged over images; its weights carry gradient, as published.

    A label costs `-[y alpha (1-p)^gamma log p + (1-y) (1-alpha) p^gamma log(1-p)]`.

    Args:
        logits: Before the sigmoid.
        targets: In [0, 1], or below 0 where unknown.
        gamma: Focusing exponent of both sides.
        alpha: In [0, 1], the weight of positives, `1 - alpha` that of negatives; None weighs both with 1.

    Returns:
        A scalar in the precision of the logits, float32 at least; 0 for an empty batch.

    Raises:
        ValueError: If `gamma` is negative or `alpha` is outside [0, 1].

    Source:
        Lin et al. (2017), arXiv:1708.02002.
    """
    _require_non_negative(gamma=gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: it must be in [0, 1].")
    weights = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    logits, targets, unknown = _known(logits, targets)
    log_score, log_rest = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    positive = -weights[0] * (gamma * log_rest).exp() * log_score
    negative = -weights[1] * (gamma * log_score).exp() * log_rest
    return _reduce(targets * positive + (1 - targets) * negative, unknown)


def build_loss(config: LossConfig) -> Loss:
    """The loss that the configuration names, as a function of logits and targets."""
    if config.name == "bce":
        return bce_loss
    if config.name == "focal":
        return functools.partial(focal_loss, gamma=config.gamma, alpha=config.alpha)
    return functools.partial(
        asymmetric_loss, gamma_pos=config.gamma_pos, gamma_neg=config.gamma_neg, margin=config.margin
    )


def _known(
    logits: Float[Tensor, "B K"], targets: Float[Tensor, "B K"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Logits and targets in float32 at least, both 0 where unknown, and where that is."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    unknown = targets < 0
    return logits.to(dtype).masked_fill(unknown, 0.0), targets.to(dtype).masked_fill(unknown, 0.0), unknown


def _reduce(cost: Float[Tensor, "B K"], unknown: Bool[Tensor, "B K"]) -> Float[Tensor, ""]:
    return cost.masked_fill(unknown, 0.0).sum() / max(len(cost), 1)


def _require_non_negative(**exponents: float) -> None:
    for name, value in exponents.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}: a focusing exponent must be 0 or more.")
