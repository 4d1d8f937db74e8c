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
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Final

import numpy as np

from query2label.errors import ConfigError
from query2label.storage import (
    explained_os_errors,
    fsync_folder,
    remove_folder,
    remove_temporaries,
    require_room,
    write_json,
)
from query2label.training.feature_entry import (
    ARRAY,
    LOCK,
    MANIFEST,
    PROGRESS,
    ArraySpec,
    Entry,
    EntryWriter,
    is_allocated,
    is_whole,
    read_entry,
    read_json,
)
from query2label.training.file_lock import acquire, held, try_acquire

KEY_LENGTH: Final = 32


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
                    if is_allocated(folder, spec):
                        continue
                    undo.callback(_remove_unused, folder)
                    with held(acquire(folder / LOCK, fcntl.LOCK_EX, on_wait)):
                        if not is_allocated(folder, spec):
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
            on_wait((read_json(folder / PROGRESS) or {"done": 0})["done"])

        with explained_os_errors(folder, needed_bytes=spec.num_bytes):
            while True:
                lock = acquire(folder / LOCK, fcntl.LOCK_SH, waiting)
                entry = read_entry(folder, spec, lock)
                if entry is not None:
                    os.utime(folder / MANIFEST)
                    return entry
                with held(acquire(folder / LOCK, fcntl.LOCK_EX, waiting)):
                    if not is_whole(folder, spec):
                        self._build(folder, spec, build)

    def _build(self, folder: Path, spec: ArraySpec, build: Callable[[EntryWriter], None]) -> None:
        if not is_allocated(folder, spec):
            self._allocate(folder, spec, keep={spec.key})
        with (folder / ARRAY).open("r+b") as file:
            writer = EntryWriter(folder, file, spec)
            try:
                build(writer)
            finally:
                writer.mark()
        write_json(folder / MANIFEST, {**spec.description, "broken": writer.broken})
        (folder / PROGRESS).unlink()

    def _allocate(self, folder: Path, spec: ArraySpec, *, keep: Set[str]) -> None:
        """Makes room, and takes it by giving the file its full size at once."""
        for name in (MANIFEST, PROGRESS, ARRAY):
            (folder / name).unlink(missing_ok=True)
        with held(acquire(self.root / LOCK, fcntl.LOCK_EX)):
            self._make_room(spec.num_bytes, keep=keep)
            with contextlib.ExitStack() as undo:
                undo.callback((folder / ARRAY).unlink, missing_ok=True)
                np.lib.format.open_memmap(folder / ARRAY, mode="w+", dtype=spec.dtype, shape=spec.shape)
                _fill(folder / ARRAY)
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
        lock = try_acquire(folder / LOCK)
    except FileNotFoundError:  # another process was faster
        return True
    if lock is None:
        return False
    with held(lock):
        remove_folder(folder)
    return True


def _size(folder: Path) -> int:
    try:
        return (folder / ARRAY).stat().st_size
    except FileNotFoundError:
        return 0


def _last_use(folder: Path) -> float:
    for path in (folder / MANIFEST, folder):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0.0
