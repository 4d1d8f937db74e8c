"""What every reader gives: images with targets, in splits, and the problems that were met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from query2label.data.contents import ImageContent
from query2label.errors import DataError
from query2label.labels import UNKNOWN, LabelSet


@dataclass(frozen=True, slots=True)
class Box:
    """An object's box in pixels of the image as displayed: left, top, width, height."""

    label: int
    left: float
    top: float
    width: float
    height: float
    area: float
    """Area in square pixels as the format states it (a mask's where there is one), else width * height."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known about its labels; labels in neither tuple are absent (target 0)."""

    path: Path
    """The image file; of an image in an archive, a name for people: the archive's path and a name in it."""
    positive: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    content: ImageContent | None = None
    """Where the bytes are, if `path` is no file."""

    @property
    def file(self) -> Path:
        """The file on disk that the image is in, or is."""
        return self.path if self.content is None else self.content.file

    def image_source(self) -> Path | bytes:
        """What `load_image` and `preprocess` take: the file, or the bytes out of the archive.

        Bytes that cannot be read are an `ImageError`.
        """
        return self.path if self.content is None else self.content.read()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the data, with the place a person has to look at."""

    path: Path
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        return f"{place}: {self.message}"


class ProblemError(DataError):
    """A problem that ends the reading of a file; readers of several files collect it and go on."""

    def __init__(self, path: Path, message: str, line: int | None = None) -> None:
        self.problem = Problem(path, message, line)
        super().__init__(str(self.problem))


@dataclass(frozen=True)
class Dataset:
    """Labelled images in a fixed order."""

    labels: LabelSet
    samples: Sequence[Sample]
    source: Path
    """The path it was read from."""
    format: str
    """Name of the reader."""
    problems: Sequence[Problem] = field(default=())
    """What was wrong and left out; `load_dataset` refuses these unless told otherwise."""
    notes: Sequence[str] = field(default=())
    """What was left out on purpose and is no mistake, one sentence each."""

    def __len__(self) -> int:
        return len(self.samples)

    def targets(self) -> npt.NDArray[np.int8]:
        """Targets (n, K) in {1, 0, -1}; -1 is unknown."""
        targets = np.zeros((len(self.samples), len(self.labels)), dtype=np.int8)
        for row, sample in enumerate(self.samples):
            targets[row, list(sample.positive)] = 1
            targets[row, list(sample.unknown)] = UNKNOWN
        return targets

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order of first appearance; empty where the data have none."""
        return tuple(dict.fromkeys(sample.split for sample in self.samples if sample.split is not None))

    def select(self, split: str) -> Dataset:
        """The samples of one split (possibly none); `trainval` is `train` and `val` together."""
        wanted = {"train", "val", "trainval"} if split == "trainval" else {split}
        return replace(self, samples=[sample for sample in self.samples if sample.split in wanted])
