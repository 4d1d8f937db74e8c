"""What the arguments of `q2l predict` stand for: samples, which are files or parts of archives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from query2label.data.archive_images import ARCHIVE_SUFFIXES, archive_images
from query2label.data.samples import Sample
from query2label.inference.inputs import each_input


class FoundSamples:
    """The images that arguments stand for, found anew whenever they are asked for: none is kept.

    Args:
        arguments: As for `each_input`; the images in an archive come one after the other.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments

    def __iter__(self) -> Iterator[Sample]:
        for path in each_input(self._arguments):
            if path.suffix.lower() in ARCHIVE_SUFFIXES:
                yield from archive_images(path)
            else:
                yield Sample(path)


def samples_of(arguments: Sequence[str], *, split: str | None = None) -> Iterable[Sample]:
    """The images that arguments stand for, in their order, as often as they are asked for.

    Nothing there, or wrong data, is a `DataError`.

    Args:
        arguments: As for `FoundSamples`; with a split, each the path of a data set.
        split: Takes the images of this split of each data set, whether or not their labels are known.
    """
    if split is None:
        return FoundSamples(arguments)
    from query2label.data.load import load_dataset

    return [sample for path in arguments for sample in load_dataset(path, split=split).samples]


@dataclass(frozen=True)
class Survey:
    """How many images there are, and which."""

    num_images: int
    digest: str
    """SHA-256 over their names, places in archives, and order; not over their content."""


class SurveyedSamples:
    """Passes samples on, and knows afterwards which they were."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples
        self._digest = hashlib.sha256()
        self._num_images = 0

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._samples:
            place = "" if sample.content is None else repr(sample.content)
            self._digest.update(os.fsencode(f"{sample.path}\0{place}\0"))
            self._num_images += 1
            yield sample

    @property
    def survey(self) -> Survey:
        """What has been passed on so far."""
        return Survey(self._num_images, self._digest.hexdigest())


def survey_of(samples: Iterable[Sample]) -> Survey:
    """Goes through samples once: whatever is wrong with where they are shows before anything is computed."""
    surveyed = SurveyedSamples(samples)
    for _ in surveyed:
        pass
    return surveyed.survey
