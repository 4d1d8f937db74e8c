"""The images in an archive, whether or not anything is said about their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from query2label.data.contents import FileSlice
from query2label.data.hub_rows import image_contents
from query2label.data.samples import ProblemError, Sample
from query2label.data.shard_samples import image_members, place_in
from query2label.data.tar_index import tar_members

ARCHIVE_SUFFIXES: Final = frozenset({".tar", ".parquet", ".arrow"})
"""Lower-case file name endings of files that have images in them."""


def archive_images(path: Path) -> Iterator[Sample]:
    """The images in a tar archive, or in the rows of a Parquet or Arrow file, in their order.

    They are found as they are asked for, and nothing is kept. In a tar archive, members that are no images
    are left out; a row without an image is a sample whose image is found to be empty.

    Args:
        path: The archive; what its name ends with tells its form.

    A file that cannot be read as such is a `ProblemError` where it goes wrong.

    Raises:
        ProblemError: If there is no image in it.
    """
    is_empty = True
    for sample in _members(path) if path.suffix.lower() == ".tar" else _rows(path):
        is_empty = False
        yield sample
    if is_empty:
        raise ProblemError(path, "has no image in it")


def _members(path: Path) -> Iterator[Sample]:
    for member in image_members(tar_members(path)):
        yield Sample(place_in(path, member.name), content=FileSlice(path, member.offset, member.size))


def _rows(path: Path) -> Iterator[Sample]:
    for number, content in enumerate(image_contents(path)):
        yield Sample(place_in(path, f"row-{number}"), content=content or FileSlice(path, 0, 0))
