"""What the image files of a data set turn out to be: sizes, broken ones, and pictures that occur again."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from query2label.data.look_alikes import Look, find_look_alikes, look_of
from query2label.data.samples import Dataset, Sample
from query2label.errors import ImageError
from query2label.preprocess import load_image
from query2label.storage import sha256_of


@dataclass(frozen=True)
class Duplicates:
    """Image files with exactly the same content."""

    paths: tuple[Path, ...]
    splits: tuple[str, ...]
    """Splits they are in; more than one means that the evaluation sees training images."""
    conflicting_labels: tuple[str, ...]
    """Labels that are present in one of them and absent in another."""


@dataclass(frozen=True)
class AcrossSplits:
    """Two images of different splits that look alike, though their files differ; see `look_alikes`."""

    paths: tuple[Path, Path]
    splits: tuple[str, str]
    """Of the two."""
    distance: int
    """Bits of 64 in which their perceptual hashes differ."""


@dataclass(frozen=True)
class ImageSizes:
    """Smallest, median and largest (height, width), each side by itself, in pixels as displayed."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Content:
    """What one image file turned out to be."""

    digest: str | None
    size: tuple[int, int] | None
    error: str | None
    look: Look | None = None


def read_images(samples: Sequence[Sample], on_image: Callable[[int, int], None] | None) -> list[Content]:
    """Reads all images; `on_image` is told the number read so far and of all."""
    contents: list[Content] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for content in pool.map(_read_image, samples):
            contents.append(content)
            if on_image is not None:
                on_image(len(contents), len(samples))
    return contents


def _read_image(sample: Sample) -> Content:
    digest = None
    try:
        source = sample.image_source()
        digest = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_of(source)
        image = load_image(source)
    except OSError as error:
        return Content(None, None, f"cannot be read: {error.strerror}")
    except ImageError as error:
        return Content(digest, None, str(error))
    return Content(digest, (image.height, image.width), None, look_of(image))


def image_sizes(contents: Iterable[Content]) -> ImageSizes | None:
    """The sizes of those that could be read; None where none could."""
    sizes = np.array([content.size for content in contents if content.size is not None])
    if not len(sizes):
        return None
    smallest, median, largest = (
        (int(height), int(width)) for height, width in np.quantile(sizes, [0, 0.5, 1], axis=0)
    )
    return ImageSizes(smallest, median, largest)


def find_duplicates(dataset: Dataset, contents: Sequence[Content]) -> tuple[Duplicates, ...]:
    """The groups of files with the same content."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, content in enumerate(contents):
        if content.digest is not None:
            places[content.digest].append(place)
    found = []
    for group in places.values():
        if len(group) > 1:
            samples = [dataset.samples[place] for place in group]
            splits = tuple(dict.fromkeys(sample.split for sample in samples if sample.split is not None))
            found.append(
                Duplicates(tuple(sample.path for sample in samples), splits, _conflicts(dataset, samples))
            )
    return tuple(found)


def find_look_alikes_across(dataset: Dataset, contents: Sequence[Content]) -> tuple[AcrossSplits, ...]:
    """For each image, the one of each larger split that looks most like it, if any does.

    Files with the same content are no news here.
    """
    if not contents:
        return ()
    places: dict[str, list[int]] = {split: [] for split in dataset.splits()}
    for place, sample in enumerate(dataset.samples):
        if sample.split is not None:
            places[sample.split].append(place)
    found = []
    by_size = sorted(places, key=lambda split: -len(places[split]))  # training images are what is leaked
    for before, after in itertools.combinations(by_size, 2):
        looks, others = ([contents[place].look for place in places[split]] for split in (after, before))
        for pair in find_look_alikes(looks, others):
            first, second = places[after][pair.index], places[before][pair.other]
            if contents[first].digest != contents[second].digest:
                paths = (dataset.samples[first].path, dataset.samples[second].path)
                found.append(AcrossSplits(paths, (after, before), pair.distance))
    return tuple(found)


def _conflicts(dataset: Dataset, samples: Sequence[Sample]) -> tuple[str, ...]:
    present = {index for sample in samples for index in sample.positive}
    return tuple(
        dataset.labels[index]
        for index in sorted(present)
        if any(index not in sample.positive and index not in sample.unknown for sample in samples)
    )
