"""Locks between processes: files that vanish from nobody's hands, given up when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WAIT_SECONDS = 0.2


def acquire(path: Path, mode: int, on_wait: Callable[[], None] | None = None) -> int:
    """A file descriptor that holds a lock; closing it gives the lock up.

    Args:
        path: The lock's file; it and its folder are made where they are missing.
        mode: `fcntl.LOCK_EX` (alone) or `fcntl.LOCK_SH` (with other readers).
        on_wait: Called several times a second while another process holds the lock; may raise.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as undo:
            lock = _open(path)
            undo.callback(os.close, lock)
            while not _try(lock, mode):
                if on_wait is not None:
                    on_wait()
                time.sleep(WAIT_SECONDS)
            if os.fstat(lock).st_ino == path.stat().st_ino:  # else the folder was removed meanwhile
                undo.pop_all()
                return lock


def try_acquire(path: Path) -> int | None:
    """A file descriptor that holds the lock alone, or None if another process holds it."""
    lock = _open(path)
    if _try(lock, fcntl.LOCK_EX):
        return lock
    os.close(lock)
    return None


@contextlib.contextmanager
def held(lock: int) -> Iterator[None]:
    """Gives up `lock` at the end of the block, for forked processes that inherited it too."""
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _try(lock: int, mode: int) -> bool:
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
