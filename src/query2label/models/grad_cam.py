"""Grad-CAM: which places of the feature map raise the logit of a label, for every head and backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from query2label.models.query2label import Query2Label


def grad_cam(
    model: Query2Label, features: Float[Tensor, "B C H W"], label_indices: Sequence[int]
) -> Float[Tensor, "B k H W"]:
    """How much each cell of the feature map raises the logit of each label; what lowers it is 0.

    A channel counts as much as the logit's gradient summed over its cells. For a linear head after average
    pooling this is the class activation map, whose average is the logit without its bias where no cell lowers
    it. Only the head is differentiated, so the backbone may be frozen.

    Args:
        model: In evaluation mode; no gradient is left in it.
        features: Of its backbone.
        label_indices: Which labels, by output index.

    Source:
        Selvaraju et al. (2017), arXiv:1610.02391, after Zhou et al. (2016), arXiv:1512.04150.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        features = features.detach().clone().requires_grad_()
        logits = model.forward_head(features)
        maps = [_map_of(logits[:, index].sum(), features) for index in label_indices]
    return torch.stack(maps, dim=1)


def _map_of(logit: Tensor, features: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logit, features, retain_graph=True)
    weights = gradient.sum(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).relu().detach()
