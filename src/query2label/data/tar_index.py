"""Where the members of a tar archive lie, from their headers alone: nothing is extracted, no content read.

Plain tar, GNU's long names and POSIX's extended headers (pax) are read. `tarfile` is not used: it believes
what a header says, and takes ten times as long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from query2label.data.samples import ProblemError
from query2label.errors import DataError

Kind = Literal["file", "folder", "link", "device", "sparse file"]

_BLOCK: Final = 512
_KINDS: Final[dict[bytes, Kind]] = {
    b"\0": "file",
    b"0": "file",
    b"7": "file",
    b"1": "link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "device",
    b"S": "sparse file",
}
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"L", b"K", b"x", b"g"
_MAX_EXTENDED_BYTES: Final = 2**20
_MAX_NAME_BYTES: Final = 4096
_TAIL_BYTES: Final = 2**20
_BAD_EXTENSION: Final = "has an extended header that is damaged"
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive."""

    name: str
    """As the archive has it, without `./` before it; not to be trusted with a path."""
    kind: Kind
    offset: int
    """Where its content begins."""
    size: int


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    kind: bytes
    size: int


def tar_members(path: Path) -> Iterator[Member]:
    """The members of a tar archive in their order.

    Yields:
        Each member whose content is there.

    Raises:
        ProblemError: If the file cannot be read, is compressed or no tar archive, or from some place on is
            damaged, cut off, or followed by another archive; the members before that were given.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _Walk(file.fileno(), os.fstat(file.fileno()).st_size).members()
    except OSError as error:
        raise ProblemError(path, f"cannot be read: {error.strerror}") from error
    except DataError as error:
        raise ProblemError(path, str(error)) from error


class _Walk:
    """From header to header."""

    def __init__(self, descriptor: int, length: int) -> None:
        self.descriptor = descriptor
        self.length = length

    def members(self) -> Iterator[Member]:
        """What is there, from header to header.

        Raises:
            DataError: If the archive does not go on as one does.
        """
        offset = 0
        name: bytes | None = None  # what an extension says about the member after it
        size: int | None = None
        while offset < self.length:
            block = os.pread(self.descriptor, _BLOCK, offset)
            if not block.strip(b"\0"):
                self._check_tail(offset)
                return
            header = _parse(block, offset)
            offset += _BLOCK
            if header.kind in {_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL}:
                if header.kind == _LONG_NAME:
                    name = self._extension(offset, header).rstrip(b"\0")
                elif header.kind == _EXTENDED:
                    name, size = _extended(self._extension(offset, header), name)
                offset += _padded(header.size)
                continue
            member = _member(header, name, size, offset)
            if member.offset + member.size > self.length:
                raise DataError(
                    f"is cut off: {member.name!r} begins at byte {member.offset:,} and has {member.size:,} "
                    f"bytes, but the file ends after {self.length:,}"
                )
            yield member
            offset += _padded(member.size)
            name = size = None
        raise DataError(
            "ends without the blocks of zeros that end an archive: it is cut off, or was never finished"
        )

    def _extension(self, offset: int, header: _Header) -> bytes:
        if header.size > _MAX_EXTENDED_BYTES:
            raise DataError(f"has a header of {header.size:,} bytes at byte {offset:,}, which is not read")
        return os.pread(self.descriptor, header.size, offset)

    def _check_tail(self, offset: int) -> None:
        tail = os.pread(self.descriptor, _TAIL_BYTES, offset)
        if tail.strip(b"\0"):
            raise DataError(
                f"goes on after its end at byte {offset:,}: were archives put together with cat? "
                "Keep them as files of their own"
            )


def _parse(block: bytes, offset: int) -> _Header:
    stored = _number(block[148:156])
    computed = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    size = _number(block[124:136])
    if len(block) < _BLOCK or stored != computed or size is None:
        raise DataError(_no_header(block, offset))
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    kind = block[156:157]
    return _Header(b"/".join([prefix, name]) if prefix else name, kind, size)


def _no_header(block: bytes, offset: int) -> str:
    if offset:
        return f"is damaged or cut off at byte {offset:,}: what comes there is no header of a member"
    kind = next((kind for start, kind in _COMPRESSED.items() if block.startswith(start)), None)
    if kind is not None:
        return (
            f"is compressed ({kind}), so that no image can be read by itself: unpack it to a plain .tar "
            "(photos are compressed already)"
        )
    return "is no tar archive"


def _number(field: bytes) -> int | None:
    """An octal number, or one of GNU's binary ones; None where it is neither, or negative."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if any(digit not in b"01234567" for digit in digits):
        return None
    return int(digits, 8) if digits else 0


def _extended(content: bytes, name: bytes | None) -> tuple[bytes | None, int | None]:
    """Path and size out of records `<length> <key>=<value>` and a line end.

    Raises:
        DataError: If they are not of this form.
    """
    size = None
    while content:
        length, _, _ = content.partition(b" ")
        if not _is_count(length) or not len(length) < int(length) <= len(content):
            raise DataError(_BAD_EXTENSION)
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        content = content[int(length) :]
        if key == b"path":
            name = value
        elif key == b"size":
            if not _is_count(value):
                raise DataError(_BAD_EXTENSION)
            size = int(value)
    return name, size


def _is_count(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) < 20


def _member(header: _Header, name: bytes | None, size: int | None, offset: int) -> Member:
    raw = header.name if name is None else name
    if len(raw) > _MAX_NAME_BYTES:
        raise DataError(f"has a name of {len(raw):,} bytes at byte {offset:,}")
    kind = _KINDS.get(header.kind, "file")
    if kind == "file" and raw.endswith(b"/"):  # as archives older than POSIX have folders
        kind = "folder"
    has_content = kind in {"file", "sparse file"}
    num_bytes = (header.size if size is None else size) if has_content else 0
    return Member(raw.decode("utf-8", "surrogateescape").removeprefix("./"), kind, offset, num_bytes)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
