"""Where the values of an uncompressed binary Parquet column lie in the file.

Writers leave photos uncompressed nowadays (the `datasets` library does). Each is then a run of bytes after
its length, and can be read like any file; the headers of the pages tell where the runs begin. What is found
is only believed if it fits to the byte.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from query2label.errors import DataError

_HEADER_BYTES: Final = 2**16
_MAX_DEPTH: Final = 8
_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
_PLAIN: Final = 0
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = frozenset({4, 5, 6})

_Struct = dict[int, "int | _Struct"]


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One row group's part of a column without lists in it."""

    offset: int
    """Of its first page."""
    size: int
    """Of all its pages."""
    num_values: int
    is_nullable: bool


def plain_values(descriptor: int, chunk: ColumnChunk) -> list[tuple[int, int]] | None:
    """(offset, size) of each value of a binary column; None where they do not lie one after the other.

    Args:
        descriptor: The open file.
        chunk: A part of a column that is said to be uncompressed.

    Returns:
        As many as the chunk has; None also where there are nulls.
    """
    values: list[tuple[int, int]] = []
    offset, end = chunk.offset, chunk.offset + chunk.size
    try:
        while offset < end:
            header = _Reader(os.pread(descriptor, min(_HEADER_BYTES, end - offset), offset))
            fields = header.struct()
            start = offset + header.place
            offset = start + _integer(fields, 3)
            if offset > end:
                return None
            found = _page_values(descriptor, fields, start, offset, is_nullable=chunk.is_nullable)
            if found is None or len(values) + len(found) > chunk.num_values:
                return None
            values += found
    except (DataError, OSError):
        return None
    return values if len(values) == chunk.num_values else None


def _page_values(
    descriptor: int, fields: _Struct, start: int, end: int, *, is_nullable: bool
) -> list[tuple[int, int]] | None:
    kind = _integer(fields, 1)
    inner = fields.get({_DATA_PAGE: 5, _DATA_PAGE_V2: 8}.get(kind, -1))
    if not isinstance(inner, dict) or _integer(inner, 4 if kind == _DATA_PAGE_V2 else 2) != _PLAIN:
        return None
    if kind == _DATA_PAGE_V2:
        start += _integer(inner, 5) + _integer(inner, 6)
    elif is_nullable:
        start += 4 + _length(descriptor, start)
    values = []
    for _ in range(_integer(inner, 1)):
        if start + 4 > end:
            return None
        size = _length(descriptor, start)
        values.append((start + 4, size))
        start += 4 + size
    return values if start == end else None


def _length(descriptor: int, offset: int) -> int:
    return int.from_bytes(os.pread(descriptor, 4, offset), "little")


def _integer(fields: _Struct, number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise DataError("This is no page header.")
    return value


class _Reader:
    """Thrift's compact form, as far as page headers go: integers and structures; the rest is skipped."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def struct(self, depth: int = 0) -> _Struct:
        """Field number -> value."""
        fields: _Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            value = self._value(head & 15, depth)
            if value is not None:
                fields[number] = value
        return fields

    def _value(self, kind: int, depth: int) -> int | _Struct | None:
        if depth > _MAX_DEPTH:
            raise DataError("Its structures are nested too deeply.")
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in {_LIST, _SET}:
            self._skip_list(depth)
        elif kind not in {_TRUE, _FALSE}:
            sizes = {_BYTE: 1, _DOUBLE: 8}
            self._skip(self._varint() if kind == _BINARY else sizes.get(kind, len(self.content)))
        return None

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            if head & 15 in {_TRUE, _FALSE}:
                self._skip(1)
            else:
                self._value(head & 15, depth + 1)

    def _skip(self, count: int) -> None:
        self.place += count
        if self.place > len(self.content):
            raise DataError("It is cut off.")

    def _byte(self) -> int:
        self._skip(1)
        return self.content[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise DataError("It has a number beyond all bounds.")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
