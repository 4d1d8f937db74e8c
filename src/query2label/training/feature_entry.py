"""One array of feature maps on disk, while it is being built and when it is whole."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from query2label.storage import write_json

ARRAY, PROGRESS, MANIFEST, LOCK = "features.npy", "progress.json", "manifest.json", "lock"
HEADER_BYTES: Final = 128
MARK_SECONDS = 10.0


@dataclass(frozen=True)
class ArraySpec:
    """One array: what it is called, its form, and what it is made of."""

    key: str
    """32 hexadecimal digits that differ whenever anything differs that the content depends on."""
    shape: tuple[int, int, int, int]
    """(n, C, H, W)"""
    dtype: str
    """`float32` or `float16`."""
    description: Mapping[str, Any]
    """JSON values, for people."""

    @property
    def row_bytes(self) -> int:
        """Size of one feature map."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def num_bytes(self) -> int:
        """Size of the file: all feature maps and NumPy's header."""
        return self.shape[0] * self.row_bytes + HEADER_BYTES


class Entry:
    """A whole array that nobody removes while this object lives."""

    def __init__(self, array: npt.NDArray[Any], broken: dict[int, str], lock: int) -> None:
        self.array = array
        """Mapped from the file; read-only."""
        self.broken = broken
        """Row -> reason, for rows that could not be computed (they are zero)."""
        weakref.finalize(self, os.close, lock)


class EntryWriter:
    """An array while it is being built; rows come in rising order."""

    def __init__(self, folder: Path, file: IO[bytes], spec: ArraySpec) -> None:
        self._folder, self._file, self._spec = folder, file, spec
        progress = read_json(folder / PROGRESS) or {"done": 0, "broken": {}}
        self.done: int = progress["done"]
        """Rows before this one are finished."""
        self.broken: dict[int, str] = {int(row): reason for row, reason in progress["broken"].items()}
        """Row -> reason, for rows that could not be computed."""
        self._marked = time.monotonic()

    def write(self, rows: npt.NDArray[np.int64], features: npt.NDArray[Any]) -> None:
        """Puts `features` (b, C, H, W) into these rows (b,)."""
        for row, values in zip(rows.tolist(), features.astype(self._spec.dtype, copy=False), strict=True):
            self._file.seek(HEADER_BYTES + row * self._spec.row_bytes)
            self._file.write(np.ascontiguousarray(values).data)

    def finish(self, done: int) -> None:
        """Rows before `done` are finished; they survive a kill, at the latest after ten seconds."""
        self.done = done
        if time.monotonic() - self._marked >= MARK_SECONDS:
            self.mark()

    def mark(self) -> None:
        """Makes what is finished durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(self._folder / PROGRESS, {"done": self.done, "broken": self.broken})
        self._marked = time.monotonic()


def read_entry(folder: Path, spec: ArraySpec, lock: int) -> Entry | None:
    """The whole entry, which then owns the lock; otherwise the lock is given up."""
    if not is_whole(folder, spec):
        os.close(lock)
        return None
    manifest = read_json(folder / MANIFEST) or {}
    broken = {int(row): reason for row, reason in manifest["broken"].items()}
    return Entry(np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False), broken, lock)


def is_whole(folder: Path, spec: ArraySpec) -> bool:
    """Whether the array was finished and is still there."""
    return read_json(folder / MANIFEST) is not None and is_allocated(folder, spec)


def is_allocated(folder: Path, spec: ArraySpec) -> bool:
    """Whether the array's file has its full size and form, finished or not."""
    try:
        array = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    is_alike = array.shape == spec.shape and array.dtype == np.dtype(spec.dtype)
    return bool(is_alike and array.offset == HEADER_BYTES)


def read_json(path: Path) -> dict[str, Any] | None:
    """The values in a file, or None if it is missing or damaged."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
