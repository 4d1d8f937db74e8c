"""The images that int8 is calibrated on, and those that it is compared on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image

from query2label.bundle import Bundle
from query2label.data.load import load_dataset
from query2label.data.samples import Dataset
from query2label.decode import load_image
from query2label.errors import ExportError, ImageError
from query2label.formats import DataFormatOrAuto
from query2label.preprocess import ImageSource, preprocess

MOST_CALIBRATION_IMAGES: Final = 128
_NUM_COMPARED: Final = 10

_Reader = Callable[[], ImageSource]
"""Gives an image, or a file of one; one that cannot be read is an `ImageError`, then or later."""


def calibration_images(
    images: Sequence[ImageSource],
    data: Path | str,
    bundle: Bundle,
    *,
    format: DataFormatOrAuto = "auto",  # noqa: A002 (the word people look for)
) -> list[Float[np.ndarray, "3 H W"]]:
    """Normalized images, at most `MOST_CALIBRATION_IMAGES`, taken evenly; broken ones are left out.

    Args:
        images: Which to take; none: those of the split `train` of the data.
        data: Labelled images.
        bundle: Of the model.
        format: Layout of the data.

    Raises:
        ExportError: If there are none.
    """
    if images:
        where, readers = "among those given", [_constant(image) for image in images]
    else:
        part = load_dataset(data, format=format, labels=bundle.label_set).select("train")
        where, readers = f"in a split train of {data}", [sample.image_source for sample in part.samples]
    step = max(1.0, len(readers) / MOST_CALIBRATION_IMAGES)
    chosen = [readers[int(place * step)] for place in range(min(len(readers), MOST_CALIBRATION_IMAGES))]
    loaded = [preprocess(image, bundle.preprocess) for image in _readable(chosen)]
    if not loaded:
        raise ExportError(
            f"There is no image to calibrate int8 on {where}: give photos like the model's with --images."
        )
    return loaded


def first_images(dataset: Dataset) -> list[Image.Image]:
    """The first few images of a data set that can be read."""
    readable = _readable(sample.image_source for sample in dataset.samples)
    return list(itertools.islice(readable, _NUM_COMPARED))


def _constant(image: ImageSource) -> _Reader:
    return lambda: image


def _readable(readers: Iterable[_Reader]) -> Iterator[Image.Image]:
    for reader in readers:
        try:
            yield load_image(reader())
        except ImageError:
            continue
