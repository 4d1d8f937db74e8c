"""Splitting multi-label data so that every label has its share in every part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from query2label.data.samples import Dataset
from query2label.errors import DataError


def stratified_split(dataset: Dataset, fractions: Mapping[str, float], *, seed: int = 0) -> Dataset:
    """The same images, dealt out to splits by iterative stratification.

    The rarest label is dealt out first, each of its images to the split that lacks the label most, so that
    labels with few images come out close to their share, which a random split does not give.

    Args:
        dataset: Images with labels; the splits they had are replaced. Unknown labels do not count.
        fractions: Split -> its share of the images, above 0; together 1.
        seed: Decides between splits that lack a label equally, and the order of the images.

    Raises:
        DataError: If the fractions do not add up to 1, or there are too few images for as many splits.

    Source:
        Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data (ECML PKDD 2011), figure 2.
    """
    shares = np.array(list(fractions.values()), dtype=np.float64)
    if (
        not all(name.strip() for name in fractions)
        or not (shares > 0).all()
        or not math.isclose(shares.sum(), 1)
    ):
        raise DataError(f"The fractions {dict(fractions)} have to be above 0, with names, and add up to 1.")
    parts = _deal_out(dataset, shares, np.random.default_rng(seed))
    if len(np.unique(parts)) < len(shares):
        raise DataError(f"{len(dataset)} images are too few for the splits {dict(fractions)}.")
    names = list(fractions)
    samples = [
        replace(sample, split=names[part]) for sample, part in zip(dataset.samples, parts, strict=True)
    ]
    return replace(dataset, samples=samples)


def _deal_out(
    dataset: Dataset, shares: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """The number of the split of each image."""
    labels_of = [np.array(sample.positive, dtype=np.intp) for sample in dataset.samples]
    order = rng.permutation(len(labels_of))
    images_of: list[list[int]] = [[] for _ in dataset.labels]
    for image in order:
        for label in labels_of[image]:
            images_of[label].append(int(image))
    remaining = np.array([len(images) for images in images_of], dtype=np.int64)
    lacking = np.outer(shares, remaining)
    lacking_images = shares * len(labels_of)
    parts = np.full(len(labels_of), -1, dtype=np.intp)
    while remaining.any():
        label = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
        for image in images_of[label]:
            if parts[image] < 0:
                part = _neediest(lacking[:, label], lacking_images, rng)
                parts[image] = part
                lacking[part, labels_of[image]] -= 1
                lacking_images[part] -= 1
                remaining[labels_of[image]] -= 1
    for image in order:
        if parts[image] < 0:
            parts[image] = part = int(np.argmax(lacking_images))
            lacking_images[part] -= 1
    return parts


def _neediest(
    lacking: npt.NDArray[np.float64], lacking_images: npt.NDArray[np.float64], rng: np.random.Generator
) -> int:
    """The split that lacks most of a label; on a tie the one that lacks most images, then any."""
    best = np.flatnonzero(lacking == lacking.max())
    if len(best) > 1:
        best = best[lacking_images[best] == lacking_images[best].max()]
    return int(best[0] if len(best) == 1 else rng.choice(best))
