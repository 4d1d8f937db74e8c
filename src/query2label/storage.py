"""Writing files and folders so that a crash, a kill or a full disk never leaves half of one behind.

Everything is written under a temporary name in the same folder, flushed to the disk, and renamed; whoever
looks sees either the old content or the new, never a part. Temporary names begin with `.tmp-`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from query2label.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
PREVIOUS_SUFFIX = ".previous"


@contextlib.contextmanager
def explained_os_errors(path: Path, *, needed_bytes: int = 0) -> Iterator[None]:
    """Turns a failed write below `path` into one sentence with the path and the free space.

    Args:
        path: What was being written.
        needed_bytes: Size of what was to be written, where it is known.

    Raises:
        StorageError: If the operating system refused the write, or no room was left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            parent = next(folder for folder in (path, *path.parents) if folder.exists())
            free = shutil.disk_usage(parent).free / 1e6
            needed = f"{needed_bytes / 1e6:.1f} MB are needed, " if needed_bytes else ""
            raise StorageError(
                f"No room to write {path}: {needed}{free:.1f} MB are free; free some space and start again "
                "(what was there before is untouched)."
            ) from error
        reason = error.strerror or str(error)
        raise StorageError(f"Cannot write {path}: {reason}.") from error


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: str = "w", needed_bytes: int = 0) -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the block ends without an error, and vanishes otherwise.

    Args:
        path: The final name; its folder is made where it is missing.
        mode: `w` (UTF-8 text, newlines as given) or `wb`.
        needed_bytes: Size of what will be written, where it is known; only for the error message.

    A refused write and a full disk are each a `StorageError`.
    """
    path = Path(path)
    with explained_os_errors(path, needed_bytes=needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}")
        os.fchmod(handle, 0o666 & ~_umask())
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        try:
            with open(handle, mode, **text) as file:  # type: ignore[call-overload]  # noqa: PTH123 (a descriptor)
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, *, needed_bytes: int = 0) -> Iterator[Path]:
    """A new empty folder that becomes `path` when the block ends without an error, and vanishes otherwise.

    A folder that stands at `path` is replaced as a whole: for a moment it is called `path` + `.previous`,
    and `recover_folder` puts it back if the process died in that moment.

    Args:
        path: The final name.
        needed_bytes: Size of what will be written, where it is known; only for the error message.

    A refused write and a full disk are each a `StorageError`.
    """
    path = Path(path)
    with explained_os_errors(path, needed_bytes=needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}"))
        temporary.chmod(0o777 & ~_umask())
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                fsync_folder(file) if file.is_dir() else _fsync_file(file)
            fsync_folder(temporary)
            _swap_in(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def recover_folder(path: Path) -> None:
    """Finishes what a killed `atomic_folder` or `atomic_file` left: restores `path`, removes temporaries."""
    path = Path(path)
    previous = path.with_name(path.name + PREVIOUS_SUFFIX)
    if previous.exists() and not path.exists():
        previous.rename(path)
    shutil.rmtree(previous, ignore_errors=True)
    if not path.parent.is_dir():
        return
    for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*-{path.name}"):
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, atomically; NaN and infinities are refused.

    A refused write and a full disk are each a `StorageError`.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_file(path, needed_bytes=len(text)) as file:
        file.write(text)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(temporary: Path, path: Path) -> None:
    previous = path.with_name(path.name + PREVIOUS_SUFFIX)
    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        path.rename(previous)
    temporary.rename(path)
    fsync_folder(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    # The only portable way to read it is to set it and put it back.
    mask = os.umask(0)
    os.umask(mask)
    return mask
