"""Grad-CAM: which places of the feature map raise the logit of a label, for every head and backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from query2label.models.heads import Head
from query2label.models.query2label import Query2Label


def grad_cam(
    model: Query2Label, features: Float[Tensor, "B C H W"], label_indices: Sequence[int]
) -> Float[Tensor, "B k H W"]:
    """How much each cell of the feature map raises the logit of each label; what lowers it is 0.

    A channel counts as much as the logit's gradient summed over its cells. For a linear head after average
    pooling this is the class activation map, whose average is the logit without its bias where no cell lowers
    it. Only the head is differentiated, so the backbone may be frozen. Two things keep that true of others:

    - What layer norms divide by counts as a constant. They forget how long a vector is, so else no label
      would gain from more of what it has gathered: the map would be 0 on average just where it looked.
    - Where the head standardizes the features, a cell counts by how far it is from each channel's mean, as
      the head sees it. Else all cells would be shifted alike, often so far below 0 that nothing is left.

    Args:
        model: In evaluation mode; no gradient is left in it.
        features: Of its backbone.
        label_indices: Which labels, by output index.

    Source:
        Selvaraju et al. (2017), arXiv:1610.02391, after Zhou et al. (2016), arXiv:1512.04150; layer norms as
        in Ali et al. (2022), arXiv:2202.07304.
    """
    with torch.inference_mode(mode=False), torch.enable_grad(), _ConstantSpread():
        # PyTorch 2.14 on CPUs differentiates a batch norm wrongly where memory formats are mixed.
        features = features.detach().clone(memory_format=torch.channels_last).requires_grad_()
        logits = model.forward_head(features)
        maps = [_map_of(model.head, logits[:, index].sum(), features) for index in label_indices]
    return torch.stack(maps, dim=1)


def _map_of(head: Head, logit: Tensor, features: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logit, features, retain_graph=True)
    weights = gradient.sum(dim=(2, 3), keepdim=True)
    return (weights * head.centred(features)).sum(dim=1).relu().detach()


class _ConstantSpread(TorchFunctionMode):
    """Within it, what layer norms divide by is a constant to the gradient; their output is the same."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        called = _layer_norm if func is functional.layer_norm else func
        return called(*args, **(kwargs or {}))


def _layer_norm(
    tokens: Float[Tensor, "*B D"],
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*B D"]:
    dims = tuple(range(-len(shape), 0))
    variance, mean = torch.var_mean(tokens, dims, correction=0, keepdim=True)
    normalized = (tokens - mean) / (variance.detach() + eps).sqrt()
    scaled = normalized if weight is None else normalized * weight
    return scaled if bias is None else scaled + bias
