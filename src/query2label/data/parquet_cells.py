"""Single values of a binary column in Parquet files, without keeping the files in memory.

A Parquet file has no place of its own for each value: reading one means decoding the values before it in its
row group. What was decoded is kept, up to a bound, and reading in order never decodes anything twice.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from query2label.errors import ImageError
from query2label.extras import import_extra

PURPOSE: Final = "Reading Parquet files"
MAX_KEPT_BYTES: Final = 128 * 2**20
"""Decoded images that a process keeps."""
MAX_OPEN: Final = 4
"""Row groups that a process is in the middle of."""
_ROWS_AT_ONCE: Final = 16
_BUFFER_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """One value of a binary column."""

    file: Path
    column: str
    """Its path in the schema, with dots, for example `image.bytes`."""
    row_group: int
    row: int
    """In the row group, from 0."""

    def read(self) -> bytes:
        """The bytes; a file that cannot be read any more is an `ImageError`."""
        return _process_cells().read(self)


_Group: TypeAlias = tuple[Path, str, int]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A row group that was decoded up to some row."""

    rows: Iterator[tuple[ParquetCell, bytes]]
    next_row: int


class _Cells:
    """Decodes row groups from their begin on as far as is asked for, and keeps the latest values."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: OrderedDict[ParquetCell, bytes] = OrderedDict()
        self.num_bytes = 0
        self.open: OrderedDict[_Group, _Begun] = OrderedDict()

    def read(self, cell: ParquetCell) -> bytes:
        with self.lock:
            if cell not in self.values:
                self._decode_up_to(cell)
            return self.values[cell]

    def _decode_up_to(self, cell: ParquetCell) -> None:
        group = (cell.file, cell.column, cell.row_group)
        arrow = import_extra("pyarrow", extra="parquet", purpose=PURPOSE)
        begun = self.open.pop(group, None)
        rows = begun.rows if begun is not None and begun.next_row <= cell.row else _values(*group)
        try:
            for at, value in rows:
                self._keep(at, value)
                if at == cell:
                    self._keep_open(group, _Begun(rows, cell.row + 1))
                    return
        except (arrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ImageError(f"The Parquet file cannot be read: {reason}.") from None
        raise ImageError("The Parquet file has become shorter than it was, and ends before it.")

    def _keep(self, cell: ParquetCell, value: bytes) -> None:
        if cell in self.values:
            self.num_bytes -= len(self.values.pop(cell))
        self.values[cell] = value
        self.num_bytes += len(value)
        while self.num_bytes > MAX_KEPT_BYTES and len(self.values) > 1:
            self.num_bytes -= len(self.values.popitem(last=False)[1])

    def _keep_open(self, group: _Group, begun: _Begun) -> None:
        self.open[group] = begun
        if len(self.open) > MAX_OPEN:
            self.open.popitem(last=False)


def _values(path: Path, column: str, row_group: int) -> Iterator[tuple[ParquetCell, bytes]]:
    parquet: Any = import_extra("pyarrow.parquet", extra="parquet", purpose=PURPOSE)
    # A small buffer has the column read piece by piece, not at once.
    with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        row = 0
        for batch in file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[row_group], columns=[column], use_threads=False
        ):
            values = batch.column(0)
            for name in column.split(".")[1:]:
                values = values.field(name)
            for value in values:
                yield ParquetCell(path, column, row_group, row), value.as_py() or b""
                row += 1


_cells: Final[dict[int, _Cells]] = {}


def _process_cells() -> _Cells:
    """This process's values: a child must not use its parent's open files and locks."""
    process = os.getpid()
    return _cells.get(process) or _cells.setdefault(process, _Cells())
