"""Images that look alike: one picture that was saved anew, resized or brightened, in two parts of the data.

Two images are alike if their perceptual hashes differ in few of 64 bits and their colours, 8 x 8 of them, are
nearly proportional. Hashes alone take one street scene for another; colours alone take one sky for another.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from query2label.data.loaders import Indices, decode_all
from query2label.data.samples import Dataset
from query2label.data.workers import Report
from query2label.decode import load_reduced
from query2label.errors import ImageError

MAX_DISTANCE: Final = 12
"""Bits of 64 in which the hashes of two images that look alike may differ."""
MIN_CORRELATION: Final = 0.9
"""Least correlation of their colours: what is found at 0.88 on real photos is no longer the same picture."""

Look: TypeAlias = bytes
"""How an image looks, in 200 bytes: a perceptual hash of 64 bits, and 8 x 8 RGB colours."""

_SIDE: Final = 32
_GRID: Final = 8
_HASH_BYTES: Final = 8
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_FLATTEST: Final = 4.0
"""Grey levels by which colours must vary at least; below, an image has nothing to be recognised by."""
_MOST_CANDIDATES: Final = 100
"""Of more images with a similar hash, those with the most similar ones are compared by colour."""
_BATCH: Final = 64
_BLOCK_CELLS: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class LookAlike:
    """An image, and the one among others that looks most like it."""

    index: int
    other: int
    distance: int
    """Bits of 64 in which their hashes differ."""


def look_of(image: Image.Image, *, box: tuple[float, float, float, float] | None = None) -> Look:
    """How an image looks.

    The bits say which of the 64 lowest frequencies (DCT) of a small grey version lie above their median.

    Args:
        image: RGB.
        box: The part of it that is the image, as in `ReducedImage`; unset: all of it.
    """
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    pixels = np.asarray(small, dtype=np.float32)
    waves = _waves()
    frequencies = (waves @ (pixels @ _LUMA) @ waves.T).ravel()
    bits = np.packbits(frequencies > np.median(frequencies[1:]))  # the first is the brightness
    step = _SIDE // _GRID
    colours = pixels.reshape(_GRID, step, _GRID, step, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return bytes(bits) + bytes(colours)


def read_looks(
    dataset: Dataset, indices: Indices, *, num_workers: int, timeout_seconds: float
) -> Generator[list[Look | None], None, None]:
    """How some samples look, a list per batch of them; None where an image cannot be read.

    Args:
        dataset: Where the samples are.
        indices: Which of them.
        num_workers: Processes that decode; 0 decodes in this one.
        timeout_seconds: Longest wait for a batch; 0 waits for ever.

    An image that kills its process twice, or takes too long, is a `DataError` that names it.
    """
    batches = [indices[first : first + _BATCH] for first in range(0, len(indices), _BATCH)]
    yield from decode_all(
        functools.partial(_read_batch, dataset),
        batches,
        dataset=dataset,
        num_workers=num_workers,
        timeout_seconds=timeout_seconds,
    )


def find_look_alikes(looks: Sequence[Look | None], others: Sequence[Look | None]) -> list[LookAlike]:
    """For each image that looks like any of some others, the most similar of them.

    All pairs are compared, in blocks of bounded memory: a pair costs some nanoseconds, which is little beside
    the decoding of its images. Images of a single colour look like nothing.

    Args:
        looks: How the images look; None is passed over.
        others: How the others look.
    """
    mine, theirs = _Looks.of(looks), _Looks.of(others)
    found = []
    block = max(1, _BLOCK_CELLS // max(len(others), 1))
    for start in range(0, len(mine.indices), block):
        agreement = mine.signs[start : start + block] @ theirs.signs.T
        candidates = agreement >= 64 - 2 * MAX_DISTANCE
        for row in np.flatnonzero(candidates.any(axis=1)).tolist():
            columns = np.flatnonzero(candidates[row])
            if len(columns) > _MOST_CANDIDATES:
                order = np.argpartition(-agreement[row, columns], _MOST_CANDIDATES)
                columns = np.sort(columns[order[:_MOST_CANDIDATES]])
            correlations = _centred(theirs.colours[columns]) @ _centred(mine.colours[[start + row]])[0]
            best = int(correlations.argmax())
            if correlations[best] >= MIN_CORRELATION:
                column = int(columns[best])
                distance = int(64 - agreement[row, column]) // 2
                pair = int(mine.indices[start + row]), int(theirs.indices[column])
                found.append(LookAlike(*pair, distance))
    return found


@dataclass(frozen=True, slots=True)
class _Looks:
    """Looks as arrays, without the missing ones."""

    indices: Indices
    signs: Float32[np.ndarray, "n 64"]
    """1 or -1 per bit: a product of two rows is the bits that agree less those that do not."""
    colours: UInt8[np.ndarray, "n 192"]

    @classmethod
    def of(cls, looks: Sequence[Look | None]) -> _Looks:
        present = [index for index, look in enumerate(looks) if look is not None]
        joined = b"".join(look for look in looks if look is not None)
        table = np.frombuffer(joined, dtype=np.uint8).reshape(len(present), _HASH_BYTES + 3 * _GRID**2)
        bits = np.unpackbits(table[:, :_HASH_BYTES], axis=1)
        return cls(np.array(present, dtype=np.int64), bits.astype(np.float32) * 2 - 1, table[:, _HASH_BYTES:])


def _centred(colours: UInt8[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
    """Rows without their mean and of length 1; shorter, where they hardly vary."""
    centred = colours - colours.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, _FLATTEST * np.sqrt(colours.shape[1])))


@functools.cache
def _waves() -> npt.NDArray[np.float32]:
    """The lowest frequencies of a discrete cosine transform (DCT-II), a row each."""
    frequencies, places = np.arange(_GRID)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * frequencies * (2 * places + 1) / (2 * _SIDE)).astype(np.float32)


def _read_batch(dataset: Dataset, indices: Indices, report: Report) -> list[Look | None]:
    looks: list[Look | None] = []
    for index in indices.tolist():
        report(index)
        try:
            reduced = load_reduced(dataset.samples[index].image_source(), enough=_enough)
        except ImageError:
            looks.append(None)
        else:
            looks.append(look_of(reduced.image, box=reduced.box))
    return looks


def _enough(_: tuple[int, int]) -> tuple[int, int]:
    return 2 * _SIDE, 2 * _SIDE
