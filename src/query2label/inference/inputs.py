"""Which images are meant by the arguments of a command: files, folders, patterns, lists."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from query2label.data.image_root import IMAGE_SUFFIXES
from query2label.errors import DataError


def expand_inputs(arguments: Iterable[str]) -> list[Path]:
    """The images that command-line arguments stand for, in their order.

    Args:
        arguments: Each an image file; a folder, searched with its subfolders for images; a pattern such as
            `photos/**/*.jpg`; or `@list.txt`, a text file with one path per line, relative to that file.

    Raises:
        DataError: If an argument stands for nothing.
    """
    paths = [path for argument in arguments for path in _expand(argument)]
    if not paths:
        raise DataError("There is nothing to predict: give an image, a folder, a pattern or @list.")
    return paths


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and its subfolders, in order of their paths; hidden ones are left out.

    Raises:
        DataError: If there is none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        raise DataError(f"There are no images in {folder} (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from images_in(path)
    elif path.exists():
        yield path
    elif argument.startswith("@"):
        yield from _listed(Path(argument[1:]))
    elif glob.has_magic(argument):
        yield from _matching(argument)
    else:
        raise DataError(f"There is no file or folder {argument}.")


def _matching(pattern: str) -> list[Path]:
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not found:
        raise DataError(f"No file matches {pattern}.")
    return found


def _listed(path: Path) -> Iterator[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"Cannot read the list {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"The list {path} is not UTF-8 text with one path per line.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image = path.parent / line.strip()
        if not image.is_file():
            raise DataError(f"{path}:{number}: there is no file {line.strip()}.")
        yield image
