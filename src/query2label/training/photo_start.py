"""A better start for few photos: a part of the way to a linear probe of their averaged features."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional

from query2label.models.class_rows import PHOTOS_WORTH
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.heads import Head
from query2label.training.features import FeatureCache

PROBE_LENGTH: Final = 0.2
"""Of the part of a label with many photos: the probe is to be a start, and not the answer."""
_BATCH, _LABELS = 64, 500  # at once, for the sake of memory
_SMALLEST = 1e-12


@torch.no_grad()
def start_from_photos(head: Head, cache: FeatureCache, targets: Int8[np.ndarray, "n K"]) -> str:
    """Moves the output rows of a direct head towards those of a linear probe of averaged features.

    Args:
        head: As it starts; rows that labels' names gave stay beside the probe's.
        cache: Feature maps of the training photos, of which the plain view is taken.
        targets: 1, 0 or -1 (unknown) of these photos.

    Returns:
        What came of it, as a sentence for the log.
    """
    if (
        not isinstance(head, LabelQueryHead)
        or not head.direct
        or head.output_weight.shape[1] != cache.shape[0]
    ):
        return (
            "Photos are not asked for a start: model.start_from_photos is for the head query2label with "
            'model.attention = "direct" on all channels.'
        )
    shown = torch.from_numpy(targets[cache.replacement])
    device = head.output_weight.device
    features = head.decoder_norm(averaged_features(cache, head.feature_norm).to(device)).cpu()
    rows = probe_rows(features, shown)
    photos = (shown == 1).sum(dim=0)[:, None]
    head.output_weight.add_((PROBE_LENGTH * photos / (PHOTOS_WORTH + photos) * rows).to(device))
    return f"{int(rows.any(dim=1).sum())} of {len(rows)} labels start towards a linear probe of the photos."


def averaged_features(cache: FeatureCache, norm: nn.Module) -> Float[Tensor, "n C"]:
    """The mean of each feature map; its channels standardized, where the batch norm `norm` is to do so."""
    means, squares = [], []
    for indices in np.split(np.arange(len(cache)), range(_BATCH, len(cache), _BATCH)):
        features = cache.load(indices)
        means.append(features.mean(dim=(2, 3)))
        squares.append(features.square().mean(dim=(2, 3)))
    pooled = torch.cat(means)
    if not isinstance(norm, nn.BatchNorm2d):
        return pooled
    mean = pooled.mean(dim=0)
    variance = torch.cat(squares).mean(dim=0) - mean.square()
    return (pooled - mean) / (variance.clamp(min=0) + norm.eps).sqrt()


def probe_rows(features: Float[Tensor, "n D"], targets: Int8[Tensor, "n K"]) -> Float[Tensor, "K D"]:
    """Directions of length 1 that tell the photos with a label from those without: linear discriminants.

    Their covariance is that of all photos, drawn towards a multiple of the identity the more, the fewer
    photos there are to a dimension. The row of a label without photos on both sides is 0.

    Source:
        Friedman (1989), Regularized Discriminant Analysis.
    """
    num_photos, dim = features.shape
    centred = (features - features.mean(dim=0)).double()
    covariance = centred.T @ centred / num_photos
    # Photos that all look the same have none: their rows are 0.
    covariance += (covariance.trace() / num_photos).clamp(min=_SMALLEST) * torch.eye(dim)
    sides = torch.cat([centred.T @ _sides(part) for part in torch.split(targets, _LABELS, dim=1)], dim=1)
    return functional.normalize(torch.linalg.solve(covariance, sides).T, dim=1).float()


def _sides(targets: Int8[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Weights that give the mean of the photos with a label less that of those without."""
    positive, negative = (targets == 1).double(), (targets == 0).double()
    num_positive, num_negative = positive.sum(dim=0), negative.sum(dim=0)
    both = (num_positive > 0) & (num_negative > 0)
    return both * (positive / num_positive.clamp(min=1) - negative / num_negative.clamp(min=1))
