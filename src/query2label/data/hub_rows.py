"""The rows of one Parquet or Arrow file: where each image's bytes are, and what is said about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from query2label.data.contents import FileSlice, ImageContent
from query2label.data.hub_schema import PURPOSE, HubColumns, ImageColumn, hub_columns, image_column
from query2label.data.parquet_cells import ParquetCell
from query2label.data.parquet_pages import ColumnChunk, plain_values
from query2label.data.samples import ProblemError
from query2label.extras import import_extra

_MAX_LABEL_BYTES: Final = 2000
_ROWS_AT_ONCE: Final = 1024
_FEW: Final = 2**16


@dataclass(frozen=True)
class HubRows:
    """What is read of a file."""

    columns: HubColumns
    images: list[ImageContent | None]
    """None where there are no bytes."""
    labels: list[Any]
    """As they stand in the column: an index, a name, a list of those, or None."""
    unknown: list[Any]
    """Likewise; a list of None where there is no such column."""


def hub_rows(path: Path) -> HubRows:
    """The rows of a `.parquet` file, or of an Arrow stream (`.arrow`).

    It is refused with a `ProblemError` if it cannot be read, has no images or labels, or promises more than
    it can hold.
    """
    with _explained(path):
        return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _arrow_rows(path)


def image_contents(path: Path) -> Iterator[ImageContent | None]:
    """Where the images of a `.parquet` file or an Arrow stream are, row by row; no labels are needed.

    It is refused with a `ProblemError` if it cannot be read, has no images, or promises more than it can
    hold.
    """
    with _explained(path):
        if path.suffix.lower() == ".parquet":
            parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=PURPOSE)
            column = image_column(path, parquet.read_schema(path))
            with parquet.ParquetFile(path) as file:
                _check_counts(path, file.metadata, [])
                yield from _parquet_images(path, file, column)
        else:
            with _opened_stream(path) as (stream, start, size):
                column = image_column(path, stream.schema)
                for batch in stream:
                    yield from _batch_images(path, batch.column(column.name), start, size, column)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
    try:
        yield
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ProblemError(path, f"cannot be read: {reason}") from error


def _parquet_rows(path: Path) -> HubRows:
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose=PURPOSE)
    columns = hub_columns(path, parquet.read_schema(path))
    with parquet.ParquetFile(path) as file:
        leaves = [file.schema.column(place).path for place in range(len(file.schema))]
        _check_counts(path, file.metadata, [leaf for leaf in leaves if _is_of(leaf, columns.label_columns)])
        images = list(_parquet_images(path, file, columns.image))
    labels: dict[str, list[Any]] = {name: [] for name in columns.label_columns}
    # As dictionaries: a text is kept once, however often a small file repeats it.
    with parquet.ParquetFile(
        path, read_dictionary=[leaf for leaf in leaves if _is_of(leaf, [*labels])]
    ) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*labels], use_threads=False):
            _add_labels(path, batch, labels)
    return _rows(columns, images, labels)


def _parquet_images(path: Path, file: Any, column: ImageColumn) -> Iterator[ImageContent | None]:
    place = [file.schema.column(place).path for place in range(len(file.schema))].index(column.leaf)
    with path.open("rb") as raw:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            yield from _group_images(path, raw.fileno(), file.schema.column(place), group, place, number)


def _is_of(leaf: str, columns: list[str]) -> bool:
    return any(leaf == name or leaf.startswith(f"{name}.") for name in columns)


def _check_counts(path: Path, metadata: Any, label_leaves: list[str]) -> None:
    """Refuses files in which a few bytes stand for millions of rows.

    Raises:
        ProblemError: If a row or label would have less than four bytes.
    """
    counts = [metadata.num_rows]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        counts += [chunk.num_values for chunk in chunks if chunk.path_in_schema in label_leaves]
    if sum(counts) > max(path.stat().st_size // 4, _FEW):
        raise ProblemError(path, f"promises {sum(counts):,} rows and labels in {path.stat().st_size:,} bytes")


def _group_images(
    path: Path, descriptor: int, column: Any, group: Any, place: int, number: int
) -> list[ImageContent]:
    chunk = group.column(place)
    if (
        chunk.compression == "UNCOMPRESSED"
        and not chunk.has_dictionary_page
        and not column.max_repetition_level
    ):
        where = ColumnChunk(
            chunk.data_page_offset,
            chunk.total_compressed_size,
            group.num_rows,
            column.max_definition_level > 0,
        )
        values = plain_values(descriptor, where)
        if values is not None:
            return [FileSlice(path, offset, size) for offset, size in values]
    return [ParquetCell(path, chunk.path_in_schema, number, row) for row in range(group.num_rows)]


def _arrow_rows(path: Path) -> HubRows:
    with _opened_stream(path) as (stream, start, size):
        columns = hub_columns(path, stream.schema)
        images: list[ImageContent | None] = []
        labels: dict[str, list[Any]] = {name: [] for name in columns.label_columns}
        for batch in stream:
            images += _batch_images(path, batch.column(columns.image.name), start, size, columns.image)
            _add_labels(path, batch, labels)
    return _rows(columns, images, labels)


@contextlib.contextmanager
def _opened_stream(path: Path) -> Iterator[tuple[Any, int, int]]:
    """The batches of an Arrow stream, the address that the file begins at in memory, and its size."""
    arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
    with arrow.memory_map(str(path)) as file:
        start, size = file.read_buffer().address, file.size()
        file.seek(0)
        with arrow.ipc.open_stream(file) as stream:
            yield stream, start, size


def _batch_images(
    path: Path, column: Any, start: int, size: int, described: ImageColumn
) -> Iterator[FileSlice | None]:
    """Slices of the file: the values of an Arrow column lie in it as they are in memory.

    Raises:
        ProblemError: If they do not.
    """
    arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
    column.validate(full=True)
    is_there = np.asarray(column.is_valid())
    if described.in_struct:
        column = column.field("bytes")
        is_there = is_there & np.asarray(column.is_valid())
    if not len(column):
        return
    _, offset_buffer, content = column.buffers()
    width = np.int64 if arrow.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(offset_buffer, width)[column.offset : column.offset + len(column) + 1]
    begin = 0 if content is None else content.address - start
    if content is not None and not 0 <= begin <= begin + content.size <= size:
        raise ProblemError(path, "is compressed, so that no image can be read by itself: write it without")
    for here, first, last in zip(is_there, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield FileSlice(path, begin + first, last - first) if here else None


def _add_labels(path: Path, batch: Any, labels: dict[str, list[Any]]) -> None:
    for name in labels:
        column = batch.column(name)
        column.validate(full=True)
        _check_texts(path, name, column)
        labels[name] += column.to_pylist()


def _check_texts(path: Path, name: str, column: Any) -> None:
    arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
    compute = import_extra("pyarrow.compute", extra="parquet", purpose=PURPOSE)
    while arrow.types.is_list(column.type) or arrow.types.is_large_list(column.type):
        column = column.flatten()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        longest = compute.max(compute.binary_length(column)).as_py() or 0
        if longest > _MAX_LABEL_BYTES:
            raise ProblemError(path, f"has a text of {longest:,} bytes in {name!r}, which is no label")


def _rows(columns: HubColumns, images: list[ImageContent | None], labels: dict[str, list[Any]]) -> HubRows:
    unknown = [None] * len(images) if columns.unknown is None else labels[columns.unknown]
    return HubRows(columns, images, labels[columns.label], unknown)
