"""Data of the Hugging Face `datasets` library: Parquet files as on the hub, and what `save_to_disk` writes.

A Parquet folder has `train-00000-of-00002.parquet`, ..., right there, in `data`, or in one folder per split.
A folder of `save_to_disk` has a `state.json` with the Arrow files that it names, or one such folder per split
under a `dataset_dict.json`. Images are bytes in a column (`image`: a structure with `bytes` and `path`, or
plain binary); labels are a column of indices or names, or of lists of them. The names of indices come from
the file's metadata (`ClassLabel`) and fix the label set and its order; without them an index is its own name.

A row without labels (null, or -1 in a column with one index per image) is one that nobody has judged: all its
labels are unknown. A column `unknown` beside names or indices tells the unknown ones of a row.

Paths are those of the files with the number of the row, from 0: `train-00000-of-00002.parquet/row-17`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from query2label.data.contents import MAX_IMAGE_BYTES, FileSlice
from query2label.data.hub_files import HubFile, hub_files, looks_saved, parquet_files
from query2label.data.hub_rows import HubRows, hub_rows
from query2label.data.hub_schema import has_images, parquet_schema
from query2label.data.label_values import IndexLists, in_order, judged_once, named_labels
from query2label.data.named_images import NamedImage, as_samples, used_labels
from query2label.data.samples import Dataset, Problem, ProblemError
from query2label.data.shard_samples import place_in
from query2label.data.shards import OF_HOW_MANY, refuse_empty, split_of_shard
from query2label.errors import DataError
from query2label.labels import LabelSet

FILE_SUFFIXES: Final = (".parquet", ".arrow")


def read(path: Path, *, labels: LabelSet | None = None) -> Dataset:
    """Reads a folder as above, or one file of it.

    Args:
        path: The folder, or a `.parquet` or `.arrow` file.
        labels: The label set and its order; a label that is not in it is a problem, one that the data do not
            name is unknown if they name theirs.

    Returns:
        The images in the order of files and rows; rows with anything wrong are problems. It is refused with a
        `ProblemError` if no row can be used.
    """
    problems: list[Problem] = []
    reader = _Reader(problems)
    files = [HubFile(path, split_of_shard(Path(path.name)))] if path.is_file() else hub_files(path, problems)
    images = [image for file in files for image in reader.images(file)]
    if reader.names is None:
        reader.lists.check(None)
    if not images:
        refuse_empty(path, "row", problems)
    label_set = labels or reader.names or in_order(used_labels(path, images))
    for image in reader.unjudged:
        image.unknown = frozenset(label_set)
    samples = as_samples(images, label_set, problems, annotated=reader.names)
    spare = ", ".join(reader.spare)
    notes = [f"Columns that were not used: {spare}."] if spare else []
    return Dataset(label_set, samples, path, "huggingface", problems, notes)


def looks_like(path: Path) -> bool:
    """Whether a Parquet file has images in it (not names of files), or a folder has such or saved files."""
    if path.is_file():
        suffix = path.suffix.lower()
        return suffix == ".arrow" or (suffix == ".parquet" and _has_images(path))
    if looks_saved(path):
        return True
    first = next(parquet_files(path), None)
    return first is not None and _has_images(first)


def _has_images(file: Path) -> bool:
    """By the schema; by the name, where it cannot be read."""
    schema = parquet_schema(file)
    return bool(OF_HOW_MANY.match(file.name)) if schema is None else has_images(schema)


class _Reader:
    """Reads file after file; they have to agree on the names of labels."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.names: LabelSet | None = None
        self.spare: dict[str, None] = {}
        self.unjudged: list[NamedImage] = []
        self.lists = IndexLists()
        self._first: Path | None = None

    def images(self, file: HubFile) -> Iterator[NamedImage]:
        try:
            rows = hub_rows(file.path)
            self._check_names(file.path, rows)
        except ProblemError as error:
            self.problems.append(error.problem)
            return
        self.spare |= dict.fromkeys(rows.columns.spare)
        for number in range(len(rows.images)):
            place = place_in(file.path, f"row-{number}")
            try:
                yield self._image(place, file.split, rows, number)
            except DataError as error:
                self.problems.append(Problem(place, str(error)))

    def _check_names(self, path: Path, rows: HubRows) -> None:
        if self._first is None:
            self._first, self.names = path, rows.columns.names
        elif rows.columns.names != self.names:
            raise ProblemError(path, f"names other labels than {self._first}")

    def _image(self, place: Path, split: str | None, rows: HubRows, number: int) -> NamedImage:
        content = rows.images[number]
        if content is None:
            raise DataError("has no bytes of an image: write the data with the image files embedded")
        if isinstance(content, FileSlice) and content.size > MAX_IMAGE_BYTES:
            raise DataError(f"has {content.size:,} bytes, more than the {MAX_IMAGE_BYTES:,} that are read")
        value, unknown = rows.labels[number], rows.unknown[number]
        image = NamedImage(place, split, place, content=content)
        if value is None or value == -1:
            self.unjudged.append(image)
            return image
        self.lists.add(value, place)
        positive = named_labels(value, self.names)
        image.lines = dict.fromkeys(positive)
        image.unknown = judged_once(positive, named_labels([] if unknown is None else unknown, self.names))
        return image
