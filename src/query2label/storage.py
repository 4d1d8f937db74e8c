"""Writing files and folders so that a crash, a kill or a full disk never leaves half of one behind.

Everything is written under a temporary name in the same folder, flushed to the disk, and renamed; whoever
looks sees either the old content or the new, never a part. Temporary names are `.tmp-`, eight hexadecimal
digits, `-` and the final name.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from query2label.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
PREVIOUS_SUFFIX = ".previous"
_LEAST_IN_MB = 50_000  # bytes; less would be read as 0.0 MB


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
    except (OSError, SafetensorError) as error:
        number, reason = _cause(error)
        if number in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageError(_no_room(path, needed_bytes)) from error
        raise StorageError(f"Cannot write {path}: {reason}.") from error


def require_room(path: Path, needed_bytes: int) -> None:
    """Checks that a write will fit before it begins.

    Args:
        path: What will be written; neither it nor its folder need exist.
        needed_bytes: Its size.

    Raises:
        StorageError: If less than that is free.
    """
    if shutil.disk_usage(_nearest_folder(path)).free < needed_bytes:
        raise StorageError(_no_room(path, needed_bytes))


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: str = "w", needed_bytes: int = 0) -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the block ends without an error, and vanishes otherwise.

    Args:
        path: The final name; its folder is made where it is missing.
        mode: `w` (UTF-8 text, newlines as given) or `wb`.
        needed_bytes: Size of what will be written, where it is known; checked before anything is written.

    A refused write and a full disk are each a `StorageError`.
    """
    path = Path(path)
    with explained_os_errors(path, needed_bytes=needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_room(path, needed_bytes)
        temporary = temporary_path(path)
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        try:
            with temporary.open(mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, *, needed_bytes: int = 0) -> Iterator[Path]:
    """A new empty folder that becomes `path` when the block ends without an error, and vanishes otherwise.

    A folder that stands at `path` is replaced as a whole: for a moment it is called `path` + `.previous`,
    and `recover_folder` puts it back if the process died in that moment. Files written by libraries that
    keep them private get the permissions that any new file has.

    Args:
        path: The final name.
        needed_bytes: Size of what will be written, where it is known; checked before anything is written.

    A refused write and a full disk are each a `StorageError`.
    """
    path = Path(path)
    with explained_os_errors(path, needed_bytes=needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_room(path, needed_bytes)
        temporary = temporary_path(path)
        try:
            temporary.mkdir()
            permissions = temporary.stat().st_mode
            yield temporary
            for file in sorted(temporary.rglob("*")):
                if not file.is_dir():
                    file.chmod(permissions & 0o666)
                fsync_folder(file)
            fsync_folder(temporary)
            _swap_in(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def temporary_path(path: Path) -> Path:
    """A new name beside `path` for what is to become it; `remove_temporaries` knows it again."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


def remove_temporaries(folder: Path, *, name: str = "*") -> None:
    """Removes what killed writers left in a folder; only for whoever is the only writer there.

    Args:
        folder: Where to look; it may be missing.
        name: Only temporaries that were to become this name (a glob pattern).
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}????????-{name}"):
        _remove(leftover)


def remove_folder(path: Path) -> None:
    """Removes a folder so that nobody sees a part of it: it is renamed first."""
    gone = temporary_path(path)
    with explained_os_errors(path):
        path.rename(gone)
    _remove(gone)


def recover_folder(path: Path) -> None:
    """Finishes what a killed `atomic_folder` or `atomic_file` left: restores `path`, removes temporaries."""
    path = Path(path)
    previous = path.with_name(path.name + PREVIOUS_SUFFIX)
    if previous.exists() and not path.exists():
        previous.rename(path)
    _remove(previous)
    remove_temporaries(path.parent, name=glob.escape(path.name))


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, atomically; NaN and infinities are refused.

    A refused write and a full disk are each a `StorageError`.
    """
    data = (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with atomic_file(path, mode="wb", needed_bytes=len(data)) as file:
        file.write(data)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(path: Path) -> None:
    """Makes the names in a folder (or the content of a file) durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(temporary: Path, path: Path) -> None:
    previous = path.with_name(path.name + PREVIOUS_SUFFIX)
    if path.exists():
        _remove(previous)
        path.rename(previous)
    temporary.rename(path)
    fsync_folder(path.parent)
    _remove(previous)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _cause(error: OSError | SafetensorError) -> tuple[int, str]:
    """Number (0 if there is none) and text of the operating system's error; safetensors words it."""
    if isinstance(error, OSError):
        return error.errno or 0, error.strerror or str(error)
    match = re.search(r"\(os error (\d+)\)", str(error))
    return (int(match[1]), os.strerror(int(match[1]))) if match else (0, str(error))


def _no_room(path: Path, needed_bytes: int) -> str:
    needed = f"{_size(needed_bytes)} are needed, " if needed_bytes else ""
    free = shutil.disk_usage(_nearest_folder(path)).free
    return (
        f"No room to write {path}: {needed}{_size(free)} are free; free some space and start again "
        "(what was there before is untouched)."
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= _LEAST_IN_MB else f"{num_bytes / 1e3:.1f} kB"


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
