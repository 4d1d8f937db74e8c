"""Arrays of feature maps on disk: built once, by one process, and bounded in total size.

Each entry is a folder that is named by its key:

    <root>/<key>/features.npy    (n, C, H, W), of its full size from the start
    <root>/<key>/progress.json   while it is being built: how many images are done
    <root>/<key>/manifest.json   when it is whole: what it is; its time is that of the last use
    <root>/<key>/lock            held by its builder alone, shared by its readers

A killed builder leaves an entry without a manifest, which nobody reads and the next builder goes on with. An
entry in use is never removed, and of two processes that need the same entry one builds and the other waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from query2label.errors import ConfigError
from query2label.storage import (
    explained_os_errors,
    fsync_folder,
    remove_folder,
    remove_temporaries,
    require_room,
    write_json,
)
from query2label.training.file_lock import acquire, held, try_acquire

MARK_SECONDS = 10.0
KEY_LENGTH = 32
HEADER_BYTES = 128
_ARRAY, _PROGRESS, _MANIFEST, _LOCK = "features.npy", "progress.json", "manifest.json", "lock"


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
        """Mapped from the file; writing to it changes only this process's copy."""
        self.broken = broken
        """Row -> reason, for rows that could not be computed (they are zero)."""
        weakref.finalize(self, os.close, lock)


class EntryWriter:
    """An array while it is being built; rows come in rising order."""

    def __init__(self, folder: Path, file: IO[bytes], spec: ArraySpec) -> None:
        self._folder, self._file, self._spec = folder, file, spec
        progress = _read_json(folder / _PROGRESS) or {"done": 0, "broken": {}}
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
        write_json(self._folder / _PROGRESS, {"done": self.done, "broken": self.broken})
        self._marked = time.monotonic()


class FeatureStore:
    """A folder of entries.

    Args:
        root: The folder; made where it is missing.
        max_bytes: Largest total size; least recently used entries go first.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes

    def reserve(self, specs: Sequence[ArraySpec], *, on_wait: Callable[[], None]) -> None:
        """Takes the room for all these arrays, before hours are spent on the first.

        Args:
            specs: The arrays; what is there already stays.
            on_wait: Called while another process takes the room for the same array; may raise.

        A full disk is a `StorageError`, too little room in the store a `ConfigError`; then no room is taken.
        """
        keep = {spec.key for spec in specs}
        with contextlib.ExitStack() as undo:
            for spec in specs:
                folder = self.root / spec.key
                with explained_os_errors(folder, needed_bytes=spec.num_bytes):
                    if _is_allocated(folder, spec):
                        continue
                    undo.callback(_remove_unused, folder)
                    with held(acquire(folder / _LOCK, fcntl.LOCK_EX, on_wait)):
                        if not _is_allocated(folder, spec):
                            self._allocate(folder, spec, keep=keep)
            undo.pop_all()

    def open(
        self, spec: ArraySpec, build: Callable[[EntryWriter], None], *, on_wait: Callable[[int], None]
    ) -> Entry:
        """The array of `spec`, built where it is not there yet.

        Args:
            spec: Which array.
            build: Computes and writes every row from `done` on; if it raises, what it finished is kept.
            on_wait: Called with the rows done so far while another process builds the array; may raise.

        A refused write and a full disk are each a `StorageError`; too little room in the store is a
        `ConfigError`.
        """
        folder = self.root / spec.key

        def waiting() -> None:
            on_wait((_read_json(folder / _PROGRESS) or {"done": 0})["done"])

        with explained_os_errors(folder, needed_bytes=spec.num_bytes):
            while True:
                lock = acquire(folder / _LOCK, fcntl.LOCK_SH, waiting)
                entry = _read_entry(folder, spec, lock)
                if entry is not None:
                    os.utime(folder / _MANIFEST)
                    return entry
                with held(acquire(folder / _LOCK, fcntl.LOCK_EX, waiting)):
                    if not _is_whole(folder, spec):
                        self._build(folder, spec, build)

    def _build(self, folder: Path, spec: ArraySpec, build: Callable[[EntryWriter], None]) -> None:
        if not _is_allocated(folder, spec):
            self._allocate(folder, spec, keep={spec.key})
        with (folder / _ARRAY).open("r+b") as file:
            writer = EntryWriter(folder, file, spec)
            try:
                build(writer)
            finally:
                writer.mark()
        write_json(folder / _MANIFEST, {**spec.description, "broken": writer.broken})
        (folder / _PROGRESS).unlink()

    def _allocate(self, folder: Path, spec: ArraySpec, *, keep: Set[str]) -> None:
        """Makes room, and takes it by giving the file its full size at once."""
        for name in (_MANIFEST, _PROGRESS, _ARRAY):
            (folder / name).unlink(missing_ok=True)
        with held(acquire(self.root / _LOCK, fcntl.LOCK_EX)):
            self._make_room(spec.num_bytes, keep=keep)
            with contextlib.ExitStack() as undo:
                undo.callback((folder / _ARRAY).unlink, missing_ok=True)
                np.lib.format.open_memmap(folder / _ARRAY, mode="w+", dtype=spec.dtype, shape=spec.shape)
                _fill(folder / _ARRAY)
                undo.pop_all()
        fsync_folder(folder)

    def _make_room(self, needed: int, *, keep: Set[str]) -> None:
        remove_temporaries(self.root, name="[0-9a-f]" * KEY_LENGTH)
        named_by_key = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")  # whatever else lies there is not ours
        entries = [path for path in self.root.iterdir() if named_by_key.fullmatch(path.name)]
        used = sum(_size(path) for path in entries)
        for folder in sorted(entries, key=_last_use):
            if used + needed <= self.max_bytes and needed <= shutil.disk_usage(self.root).free:
                return
            size = _size(folder)
            if folder.name not in keep and _remove_unused(folder):
                used -= size
        if used + needed > self.max_bytes:
            raise ConfigError(
                f"The feature cache {self.root} has no room: {gigabytes(needed)} are needed and "
                f"{gigabytes(used)} are in use, of {gigabytes(self.max_bytes)}: set train.cache_max_gb to at "
                f"least {gigabytes(used + needed)}, or lower train.cache_views or data.image_size."
            )
        require_room(self.root, needed)


def gigabytes(num_bytes: int) -> str:
    """A size for people, rounded up: a bound of this many gigabytes is large enough."""
    return f"{math.ceil(num_bytes / 1e6) / 1e3:.3f} GB"


def _fill(path: Path) -> None:
    """Gives a sparse file its blocks, where the system can, so that the disk cannot be full later."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _remove_unused(folder: Path) -> bool:
    """Removes an entry, unless a process holds it."""
    try:
        lock = try_acquire(folder / _LOCK)
    except FileNotFoundError:  # another process was faster
        return True
    if lock is None:
        return False
    with held(lock):
        remove_folder(folder)
    return True


def _read_entry(folder: Path, spec: ArraySpec, lock: int) -> Entry | None:
    """The whole entry, which then owns the lock; otherwise the lock is given up."""
    if not _is_whole(folder, spec):
        os.close(lock)
        return None
    manifest = _read_json(folder / _MANIFEST) or {}
    broken = {int(row): reason for row, reason in manifest["broken"].items()}
    return Entry(np.load(folder / _ARRAY, mmap_mode="c"), broken, lock)


def _is_whole(folder: Path, spec: ArraySpec) -> bool:
    return _read_json(folder / _MANIFEST) is not None and _is_allocated(folder, spec)


def _is_allocated(folder: Path, spec: ArraySpec) -> bool:
    try:
        array = np.load(folder / _ARRAY, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    is_alike = array.shape == spec.shape and array.dtype == np.dtype(spec.dtype)
    return bool(is_alike and array.offset == HEADER_BYTES)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value


def _size(folder: Path) -> int:
    try:
        return (folder / _ARRAY).stat().st_size
    except FileNotFoundError:
        return 0


def _last_use(folder: Path) -> float:
    for path in (folder / _MANIFEST, folder):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0.0
