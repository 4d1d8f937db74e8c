"""The first bytes of a file, by which its layout is told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_NUM_BYTES: Final = 2**16


def file_start(path: Path) -> bytes:
    """The first 64 KiB of a file without a byte order mark; empty where it cannot be read."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_NUM_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return b""
