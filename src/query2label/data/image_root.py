"""The folder that image names are relative to, and outside of which no image is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from query2label.data.samples import ProblemError
from query2label.errors import DataError

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)
"""Lower-case file name endings that count as images when a folder is searched."""


class ImageRoot:
    """Turns image names found in annotations into paths below one folder.

    Each folder is listed once; no file is asked for by itself, so 100,000 images cost a moment.

    Args:
        folder: Where the names start, and the bound that they (and symbolic links) must not leave.
        check_files: Whether an image has to be there; without it only the name is judged.
    """

    def __init__(self, folder: Path, *, check_files: bool = True) -> None:
        self.folder = folder
        self._check_files = check_files
        self._absolute = os.path.abspath(folder)  # noqa: PTH100 (lexical: links are judged separately)
        self._real = os.path.realpath(folder)
        self._listings: dict[str, Mapping[str, bool] | None] = {}

    def locate(self, name: str) -> Path:
        r"""The path of the image called `name`; `\` separates folders as `/` does.

        It is refused with a `DataError` if the name is empty or unfit, leaves the folder (`..`, an absolute
        path elsewhere, a symbolic link), or no such file is there.
        """
        relative = self._relative(name)
        if self._check_files:
            self._check(relative, name)
        return self.folder / relative

    def find(self, names: Iterable[str]) -> Path | None:
        """The path of the first of `names` that is there (of the first, unless files are checked); else None.

        It is refused with a `DataError`, as by `locate`, if that name is unfit or leads out of the folder.
        """
        for name in names:
            relative = self._relative(name)
            if not self._check_files:
                return self.folder / relative
            if self._is_listed(relative) is not None:
                self._check(relative, name)
                return self.folder / relative
        return None

    def has(self, name: str) -> bool:
        """Whether a file of this name is there and inside."""
        return bool(self._is_listed(self._relative(name)))

    def _is_listed(self, relative: str) -> bool | None:
        """Whether a file lies inside; None where there is none."""
        head, _, tail = relative.rpartition("/")
        return (self._listing(head) or {}).get(tail)

    def _relative(self, name: str) -> str:
        text = name.replace("\\", "/")
        if not text.strip() or "\0" in text:
            raise DataError(f"image name {name!r} is empty or has NUL characters")
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise DataError(f"image name {name!r} has characters that no file name can have") from None
        if text.startswith("/"):
            text = os.path.relpath(text, self._absolute)
        relative = os.path.normpath(text)
        if relative == ".." or relative.startswith("../") or re.match(r"[A-Za-z]:/", relative):
            raise DataError(f"image {name!r} leads out of {self.folder}, {_REFUSED}")
        return relative

    def _check(self, relative: str, name: str) -> None:
        head, _, tail = relative.rpartition("/")
        listing = self._listing(head)
        if listing is None:
            raise DataError(f"image {name!r} is missing: there is no folder {self.folder / head}")
        inside = listing.get(tail)
        if inside is None:
            raise DataError(f"image {name!r} is missing in {self.folder}")
        if not inside:
            raise DataError(f"image {name!r} leads out of {self.folder} by a symbolic link, {_REFUSED}")

    def _listing(self, folder: str) -> Mapping[str, bool] | None:
        """Names of the files in a folder and whether each lies inside; None where there is no such folder."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def _list(self, folder: str) -> Mapping[str, bool] | None:
        path = self.folder / folder
        try:
            with os.scandir(path) as entries:
                inside = self._is_inside(path)
                return {
                    entry.name: inside and (not entry.is_symlink() or self._is_inside(Path(entry.path)))
                    for entry in entries
                    if entry.is_file()
                }
        except OSError:
            return None

    def _is_inside(self, path: Path) -> bool:
        return _lies_in(os.path.realpath(path), self._real)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file or folder lies in `folder` once all symbolic links are followed."""
    return _lies_in(os.path.realpath(path), os.path.realpath(folder))


def _lies_in(real: str, real_folder: str) -> bool:
    return real == real_folder or real.startswith(real_folder.rstrip("/") + "/")


def refuse_outside(file: Path, folder: Path) -> None:
    """Refuses an annotation file found in `folder` that is a symbolic link to somewhere else.

    Raises:
        ProblemError: If it leads out of the folder.
    """
    if not is_inside(file, folder):
        raise ProblemError(file, f"leads out of {folder} by a symbolic link: name the file itself")


_REFUSED = "which is refused; if the images are meant to be there, name their folder (image_root, --images)"


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder below `folder` (itself first, in sorted order) with its sorted file names.

    Hidden files and folders are left out, and symbolic links to folders are not followed.
    """
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(where), sorted(name for name in files if not name.startswith("."))
