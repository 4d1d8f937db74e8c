"""Which files are meant by the arguments of a command: images, archives, folders, patterns, lists.

They are found one after the other, so that a folder or list of millions is never held as millions of objects.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Generator, Iterable, Iterator
from pathlib import Path

from query2label.data.archive_images import ARCHIVE_SUFFIXES
from query2label.data.image_root import IMAGE_SUFFIXES
from query2label.errors import DataError


def each_input(arguments: Iterable[str]) -> Iterator[Path]:
    """The files that command-line arguments stand for, in their order.

    Args:
        arguments: Each a file; a folder, searched with its subfolders for images and, where it has none, for
            archives of images; a pattern such as `photos/**/*.jpg`; or `@list.txt`, a text file with one path
            per line, relative to that file.

    Raises:
        DataError: If an argument stands for nothing; when its turn comes.
    """
    found = False
    for argument in arguments:
        for path in _expand(argument):
            found = True
            yield path
    if not found:
        raise DataError("There is nothing to predict: give an image, a folder, a pattern or @list.")


def expand_inputs(arguments: Iterable[str]) -> list[Path]:
    """`each_input` as a list; an argument that stands for nothing is a `DataError`."""
    return list(each_input(arguments))


def images_in(folder: Path) -> Iterator[Path]:
    """The images in a folder and its subfolders, in order of their paths; hidden ones are left out.

    Raises:
        DataError: If there is none.
    """
    if not (yield from _files_in(folder, IMAGE_SUFFIXES)):
        raise DataError(_no_images(folder, IMAGE_SUFFIXES))


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from _images_or_archives(path)
    elif path.exists():
        yield path
    elif argument.startswith("@"):
        yield from _listed(Path(argument[1:]))
    elif glob.has_magic(argument):
        yield from _matching(argument)
    else:
        raise DataError(f"There is no file or folder {argument}.")


def _images_or_archives(folder: Path) -> Iterator[Path]:
    has_images = yield from _files_in(folder, IMAGE_SUFFIXES)
    if not has_images and not (yield from _files_in(folder, ARCHIVE_SUFFIXES)):
        raise DataError(_no_images(folder, {*IMAGE_SUFFIXES, *ARCHIVE_SUFFIXES}))


def _files_in(folder: Path, suffixes: Collection[str]) -> Generator[Path, None, bool]:
    """Files below a folder, as if all their paths had been sorted by their parts; gives whether any is there.

    Only the names in one folder (and in those around it) are in memory at a time.

    Raises:
        DataError: If a folder cannot be read.
    """
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif os.path.splitext(entry.name)[1].lower() not in suffixes or not entry.is_file():  # noqa: PTH122
                    continue
                names.append(entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from None
    names.sort()
    found = False
    for name in names:
        if name in folders:
            found |= yield from _files_in(folder / name, suffixes)
        else:
            found = True
            yield folder / name
    return found


def _no_images(folder: Path, suffixes: Iterable[str]) -> str:
    return f"There are no images in {folder} (looked for {', '.join(sorted(suffixes))})."


def _matching(pattern: str) -> Iterator[Path]:
    found = False
    # The lowest character between the parts gives the order of paths.
    for name in sorted(glob.iglob(pattern, recursive=True), key=lambda name: name.replace(os.sep, "\0")):  # noqa: PTH207
        path = Path(name)
        if path.is_file():
            found = True
            yield path
    if not found:
        raise DataError(f"No file matches {pattern}.")


def _listed(path: Path) -> Iterator[Path]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                name = line.strip()
                if not name:
                    continue
                image = path.parent / name
                if not image.is_file():
                    raise DataError(f"{path}:{number}: there is no file {name}.")
                yield image
    except OSError as error:
        raise DataError(f"Cannot read the list {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"The list {path} is not UTF-8 text with one path per line.") from None
