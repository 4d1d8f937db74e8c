"""The images that could not be used: named once each, counted, and bounded."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from query2label.errors import DataError
from query2label.spreadsheet import inert_cell
from query2label.storage import atomic_file

NUM_NAMED = 3


class BrokenImages:
    """A ledger of broken images; each path is kept once, with the first reason that was given.

    Args:
        entries: Path -> reason, as `to_dict` gave it.
    """

    def __init__(self, entries: Mapping[str, str] | None = None) -> None:
        self._reasons: dict[str, str] = dict(entries or {})

    def record(self, path: Path | str, reason: str) -> None:
        """Remembers that the image at `path` could not be used."""
        self._reasons.setdefault(_name(path), reason)

    def update(self, entries: Mapping[str, str]) -> None:
        """Adds the entries of another ledger's `to_dict`, for example of another process."""
        for path, reason in entries.items():
            self.record(path, reason)

    def among(self, paths: Iterable[Path]) -> BrokenImages:
        """The part of the ledger that is about these images; a run has one ledger for all that it reads."""
        names = {_name(path) for path in paths}
        return BrokenImages({name: reason for name, reason in self._reasons.items() if name in names})

    def reason(self, path: Path) -> str:
        """Why the image at `path`, which is in the ledger, could not be used."""
        return self._reasons[_name(path)]

    def to_dict(self) -> dict[str, str]:
        """Path -> reason, sorted by path; what a checkpoint keeps."""
        return dict(sorted(self._reasons.items()))

    def check(self, max_fraction: float, total: int) -> None:
        """Lets a bounded share of broken images pass.

        Args:
            max_fraction: Largest share that is tolerated, in [0, 1].
            total: Number of images that the share is of.

        Raises:
            DataError: If more are broken; names the first three.
        """
        if len(self) <= max_fraction * total:
            return
        named = "; ".join(f"{path}: {reason}" for path, reason in list(self.to_dict().items())[:NUM_NAMED])
        more = f"; and {len(self) - NUM_NAMED} more" if len(self) > NUM_NAMED else ""
        raise DataError(
            f"{len(self)} of {total} images are broken, more than the {max_fraction:.1%} that "
            f"data.max_broken_fraction allows: repair or remove them ({named}{more})."
        )

    def save_csv(self, path: Path) -> None:
        """Writes the ledger as a table (image, reason), atomically.

        A refused write and a full disk are each a `StorageError`.
        """
        with atomic_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("image", "reason"))
            writer.writerows(map(inert_cell, entry) for entry in self.to_dict().items())

    def __len__(self) -> int:
        return len(self._reasons)


def _name(path: Path | str) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")  # file names may be any bytes
