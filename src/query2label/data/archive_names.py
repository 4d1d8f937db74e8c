"""Images in archives, by the names that they have in tables: the archive's and a name in it."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final

from query2label.data.contents import FileSlice, ImageContent
from query2label.data.hub_rows import hub_rows
from query2label.data.image_root import ImageRoot
from query2label.data.samples import ProblemError
from query2label.data.shard_samples import image_members, place_in
from query2label.data.tar_index import tar_members
from query2label.errors import DataError

_NAME: Final = re.compile(r"(.+?\.(?:tar|parquet|arrow))/(.+)", re.IGNORECASE)


class ArchiveNames:
    """Finds images by name, in a folder and in the archives below it; each archive is looked through once.

    Args:
        root: The folder, which no name leads out of.
    """

    def __init__(self, root: ImageRoot) -> None:
        self._root = root
        self._contents: dict[Path, dict[str, ImageContent] | ProblemError] = {}

    def locate(self, name: str) -> tuple[Path, ImageContent | None]:
        """The path of an image and, if it is in an archive, where its bytes are.

        Raises:
            DataError: If it is not there. What the folder says against a name is a `DataError` as well.
        """
        parts = _NAME.fullmatch(name.replace("\\", "/"))
        if parts is None or not self._root.has(parts[1]):
            return self._root.locate(name), None
        archive = self._root.locate(parts[1])
        inner = str(PurePosixPath(parts[2]))
        contents = self._contents_of(archive)
        if isinstance(contents, ProblemError):
            raise contents
        content = contents.get(inner)
        if content is None:
            raise DataError(f"image {name!r} is missing: {archive} has no {inner!r} in it")
        return place_in(archive, inner), content

    def _contents_of(self, archive: Path) -> dict[str, ImageContent] | ProblemError:
        if archive not in self._contents:
            try:
                self._contents[archive] = _contents(archive)
            except ProblemError as error:
                self._contents[archive] = error
        return self._contents[archive]


def _contents(archive: Path) -> dict[str, ImageContent]:
    if archive.suffix.lower() != ".tar":
        images = hub_rows(archive).images
        return {f"row-{number}": content for number, content in enumerate(images) if content is not None}
    return {
        str(PurePosixPath(member.name)): FileSlice(archive, member.offset, member.size)
        for member in image_members(tar_members(archive))
    }
