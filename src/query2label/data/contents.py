"""Where the bytes of an image are that is no file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from query2label.data.parquet_cells import ParquetCell
from query2label.errors import ImageError

MAX_IMAGE_BYTES: Final = 512 * 2**20
"""Images inside archives are read into memory as a whole; readers refuse larger ones."""


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A part of a file, such as a member of a tar archive.

    The file is opened for each read: that costs microseconds, and nothing has to be kept, bounded, or
    shared with worker processes.
    """

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            ImageError: If the file cannot be read, or ends before them.
        """
        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise ImageError(f"The archive cannot be read: {error.strerror}.") from None
        if len(content) < self.size:
            raise ImageError("The archive has become shorter than it was, and ends before it.")
        return content


ImageContent: TypeAlias = FileSlice | ParquetCell
"""Small, frozen and picklable: worker processes get it, and read the bytes themselves."""
