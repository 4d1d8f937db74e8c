"""What every reader gives: images with targets, in splits, and the problems that were met."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

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


class AllBut(Sequence[int]):
    """The output indices of all labels but some, in ascending order.

    It holds only the others: of thousands of labels, a handful are known in each image of some data.
    """

    __slots__ = ("_num_labels", "others")

    def __init__(self, num_labels: int, others: Iterable[int]) -> None:
        self._num_labels = num_labels
        self.others = tuple(sorted(set(others)))

    def __len__(self) -> int:
        return self._num_labels - len(self.others)

    def __iter__(self) -> Iterator[int]:
        start = 0
        for other in self.others:
            yield from range(start, other)
            start = other + 1
        yield from range(start, self._num_labels)

    def __contains__(self, index: object) -> bool:
        return index in range(self._num_labels) and index not in self.others

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[int, ...]: ...
    def __getitem__(self, place: int | slice) -> int | tuple[int, ...]:
        return tuple(self)[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AllBut | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known about its labels; labels in neither sequence are absent (target 0)."""

    path: Path
    """The image file; of an image in an archive, a name for people: the archive's path and a name in it."""
    positive: tuple[int, ...] = ()
    unknown: Sequence[int] = ()
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    content: ImageContent | None = None
    """Where the bytes are, if `path` is no file."""

    def write_targets(self, targets: npt.NDArray[Any]) -> None:
        """Writes 1, 0 or -1 (unknown) for each label into an array of them."""
        if isinstance(self.unknown, AllBut):
            targets[:] = UNKNOWN
            targets[list(self.unknown.others)] = 0
            targets[list(self.positive)] = 1
        else:
            targets[:] = 0
            targets[list(self.positive)] = 1
            targets[list(self.unknown)] = UNKNOWN

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
    warnings: Sequence[Problem] = field(default=())
    """What could be read, but is hardly meant so."""

    def __len__(self) -> int:
        return len(self.samples)

    def targets(self) -> npt.NDArray[np.int8]:
        """Targets (n, K) in {1, 0, -1}; -1 is unknown."""
        targets = np.empty((len(self.samples), len(self.labels)), dtype=np.int8)
        for sample, row in zip(self.samples, targets, strict=True):
            sample.write_targets(row)
        return targets

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order of first appearance; empty where the data have none."""
        return tuple(dict.fromkeys(sample.split for sample in self.samples if sample.split is not None))

    def select(self, split: str) -> Dataset:
        """The samples of one split (possibly none); `trainval` is `train` and `val` together."""
        wanted = {"train", "val", "trainval"} if split == "trainval" else {split}
        return replace(self, samples=[sample for sample in self.samples if sample.split in wanted])
