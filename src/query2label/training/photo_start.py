"""A better start for few photos: a part of the way to a linear probe of their averaged features."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional

from query2label.data.samples import Dataset
from query2label.models.class_rows import PHOTOS_WORTH
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.heads import Head
from query2label.training.features import FeatureCache, Progress
from query2label.training.progress import named

PROBE_LENGTH: Final = 0.2
"""Length of what is added for a label with many photos: the probe is to be a start, and not the answer."""
_NUM_PHOTOS, _NUM_LABELS = 64, 500  # at once, for the sake of memory
_EPSILON = 1e-5  # that of batch norms
_SMALLEST_SHRINKAGE = 1e-12


@torch.no_grad()
def start_from_photos(
    head: Head,
    cache: FeatureCache,
    train: Dataset,
    *,
    on_progress: Progress | None = None,
) -> str:
    """Moves the output rows of a direct head towards those of a linear probe of averaged features.

    Args:
        head: As it starts; rows that labels' names gave stay beside the probe's.
        cache: Feature maps of the training photos, of which the plain view is taken.
        train: These photos.
        on_progress: Told how many photos are read, and how many there are.

    Returns:
        What came of it, as a sentence for the log.
    """
    if not isinstance(head, LabelQueryHead) or not head.weighs_channels:
        return (
            "Labels do not start from photos: model.start_from_photos is for the head query2label with "
            'model.attention = "direct" on all channels.'
        )
    targets = torch.from_numpy(train.targets()[cache.replacement])
    standardized = not isinstance(head.feature_norm, nn.Identity)
    device = head.output_weight.device
    pooled = averaged_features(cache, standardized=standardized, on_progress=on_progress).to(device)
    rows = probe_rows(head.decoder_norm(pooled).cpu(), targets)
    num_photos = (targets == 1).sum(dim=0)[:, None]
    head.output_weight.add_((PROBE_LENGTH * num_photos / (PHOTOS_WORTH + num_photos) * rows).to(device))
    without = [label for label, row in zip(train.labels.names, rows, strict=True) if not row.any()]
    rest = f"; not {named(without)}" if without else ""
    return f"{len(rows) - len(without)} of {len(rows)} labels start near a linear probe of the photos{rest}."


def averaged_features(
    cache: FeatureCache, *, standardized: bool, on_progress: Progress | None = None
) -> Float[Tensor, "n C"]:
    """The mean of each feature map, whose channels have mean 0 and variance 1 where it is standardized."""
    means, variances = [], []
    for indices in np.split(np.arange(len(cache)), range(_NUM_PHOTOS, len(cache), _NUM_PHOTOS)):
        features = cache.load(indices)
        means.append(features.mean(dim=(2, 3)))
        variances.append(features.var(dim=(2, 3), unbiased=False))
        if on_progress is not None:
            on_progress(int(indices[-1]) + 1, len(cache))
    pooled = torch.cat(means)
    if not standardized:
        return pooled
    variance = torch.cat(variances).mean(dim=0) + pooled.var(dim=0, unbiased=False)
    return (pooled - pooled.mean(dim=0)) / (variance + _EPSILON).sqrt()


def probe_rows(features: Float[Tensor, "n D"], targets: Int8[Tensor, "n K"]) -> Float[Tensor, "K D"]:
    """Directions of length 1 that tell the photos with a label from those without.

    They are those of ridge regression on the targets, and so of linear discriminants: the covariance of all
    photos is drawn towards the identity by its trace over their number, the more, the fewer they are. A label
    without photos on both sides has the row 0.

    Source:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, sections 3.4.1 and 4.3.
    """
    num_photos, dim = features.shape
    exact = features.double()
    centred = exact - exact.mean(dim=0)
    covariance = centred.T @ centred / num_photos
    # Photos that all look the same have no covariance: their rows are 0.
    shrinkage = (covariance.trace() / num_photos).clamp(min=_SMALLEST_SHRINKAGE)
    covariance += shrinkage * torch.eye(dim, dtype=torch.float64)
    parts = torch.split(targets, _NUM_LABELS, dim=1)
    differences = torch.cat([centred.T @ _sides(part) for part in parts], dim=1)
    return functional.normalize(torch.linalg.solve(covariance, differences).T, dim=1).float()


def _sides(targets: Int8[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Weights that give the mean of the photos with a label less that of those without."""
    positive, negative = (targets == 1).double(), (targets == 0).double()
    num_positive, num_negative = positive.sum(dim=0), negative.sum(dim=0)
    both = (num_positive > 0) & (num_negative > 0)
    return both * (positive / num_positive.clamp(min=1) - negative / num_negative.clamp(min=1))
