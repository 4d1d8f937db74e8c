"""A better start for few photos: a part of the way to a linear probe of their averaged features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from jaxtyping import Float, Int8, Int64
from torch import Tensor, nn
from torch.nn import functional

from query2label.data.samples import Dataset
from query2label.errors import DataError, TrainingError
from query2label.models.class_rows import PHOTOS_WORTH
from query2label.models.head_query2label import LabelQueryHead
from query2label.models.heads import Head
from query2label.training.distributed import Ranks
from query2label.training.plan import Indices
from query2label.training.progress import named

PROBE_LENGTH: Final = 0.2
"""Length of what is added for a label with many photos: the probe is to be a start, and not the answer."""
_NUM_LABELS = 500  # at once, for the sake of memory
_EPSILON = 1e-5  # that of batch norms
_SMALLEST_SHRINKAGE = 1e-12


@torch.no_grad()
def start_from_photos(
    head: Head,
    photos: Iterable[tuple[Float[Tensor, "b C H W"], Indices]],
    train: Dataset,
    *,
    ranks: Ranks,
    on_progress: Callable[[int], None] | None = None,
) -> str:
    """Moves the output rows of a direct head towards those of a linear probe of averaged features.

    Args:
        head: As it starts; rows that labels' names gave stay beside the probe's.
        photos: This process's share of the training photos: their plain feature maps, and the numbers of the
            samples whose targets are theirs.
        train: All training photos.
        ranks: The processes; all end with the same rows.
        on_progress: Told how many photos of this process are read.

    Returns:
        What came of it, as a sentence for the log.

    No photo that can be read is a `DataError`, features that are not finite are a `TrainingError`.
    """
    if not isinstance(head, LabelQueryHead) or not head.weighs_channels:
        return (
            "Labels do not start from photos: model.start_from_photos is for the head query2label with "
            'model.attention = "direct" on all channels.'
        )
    moments = _moments(photos, num_channels=head.output_weight.shape[1], on_progress=on_progress)
    shown, means, variances = (ranks.gather_rows(part.to(ranks.device)).cpu() for part in moments)
    note = ranks.first_does(lambda: _move_to_probe(head, shown, means, variances, train))
    ranks.share_tensors({"output_weight": head.output_weight})
    return note


def _moments(
    photos: Iterable[tuple[Float[Tensor, "b C H W"], Indices]],
    *,
    num_channels: int,
    on_progress: Callable[[int], None] | None,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n C"], Float[Tensor, "n C"]]:
    """Whose targets the photos have, and mean and variance of each channel over each photo's map."""
    nothing = torch.empty(0, num_channels)
    shown, means, variances = [torch.empty(0, dtype=torch.long)], [nothing], [nothing]
    done = 0
    for maps, indices in photos:
        shown.append(torch.from_numpy(indices))
        means.append(maps.mean(dim=(2, 3)).cpu())
        variances.append(maps.var(dim=(2, 3), unbiased=False).cpu())
        done += len(indices)
        if on_progress is not None:
            on_progress(done)
    return torch.cat(shown), torch.cat(means), torch.cat(variances)


def _move_to_probe(
    head: LabelQueryHead,
    shown: Int64[Tensor, " n"],
    means: Float[Tensor, "n C"],
    variances: Float[Tensor, "n C"],
    train: Dataset,
) -> str:
    if not len(shown):
        raise DataError(
            f"No training image of {train.source} can be read: run `q2l data check {train.source}`."
        )
    bad = shown[~(torch.isfinite(means) & torch.isfinite(variances)).all(dim=1)].tolist()
    if bad:
        raise TrainingError(
            f"The backbone gives NaN or infinity for {train.samples[bad[0]].path}: its weights are damaged, "
            "or do not fit it."
        )
    targets = torch.from_numpy(train.targets())[shown]
    is_standardized = not isinstance(head.feature_norm, nn.Identity)
    pooled = standardized(means, variances) if is_standardized else means
    rows = probe_rows(head.decoder_norm(pooled.to(head.output_weight.device)).cpu(), targets)
    num_photos = (targets == 1).sum(dim=0)[:, None]
    lengths = PROBE_LENGTH * num_photos / (PHOTOS_WORTH + num_photos)
    head.output_weight.add_((lengths * rows).to(head.output_weight.device))
    without = [label for label, row in zip(train.labels.names, rows, strict=True) if not row.any()]
    rest = f"; not {named(without)}" if without else ""
    return f"{len(rows) - len(without)} of {len(rows)} labels start near a linear probe of the photos{rest}."


def standardized(means: Float[Tensor, "n C"], variances: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
    """What the means would be if each channel had mean 0 and variance 1 over all maps."""
    variance = variances.mean(dim=0) + means.var(dim=0, unbiased=False)
    return (means - means.mean(dim=0)) / (variance + _EPSILON).sqrt()


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
