"""Open Images' label files, read one row at a time: the largest have 60 million."""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any, Final

from query2label.data.samples import Problem, ProblemError
from query2label.errors import DataError

PRESENT, ABSENT, CONTRADICTORY = 1, 0, -1
_VERDICTS: Final = {"1": PRESENT, "1.0": PRESENT, "0": ABSENT, "0.0": ABSENT}
_COLUMNS: Final = ("ImageID", "LabelName", "Confidence")
_MAX_LINE_LENGTH: Final = 65_536
_MAX_BAD_ROWS: Final = 100


@dataclass
class Judgements:
    """What people have said about the labels of images."""

    wanted: Container[str] | None
    """The ids of the images that matter; None: all."""
    of_image: dict[str, dict[str, int]] = field(default_factory=dict)
    """Id of an image -> id of a label -> 1, 0, or -1 where people contradict each other."""
    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    """Id of an image -> the file and line of its first row."""
    num_others: int = 0
    """Rows about images that do not matter."""

    def read(self, file: Path, problems: list[Problem]) -> None:
        """Adds the rows of a file; what is wrong with some of them is added to the problems.

        Rows whose `Source` is `machine`, or whose confidence is between 0 and 1, are nobody's judgement.

        Raises:
            ProblemError: If the file cannot be read, has another header, or has many bad rows.
        """
        try:
            with file.open(encoding="utf-8-sig", newline="") as text:
                rows = csv.reader(iter(partial(text.readline, _MAX_LINE_LENGTH), ""), strict=True)
                try:
                    self._read_rows(file, rows, problems)
                except csv.Error as error:
                    raise ProblemError(file, f"this row cannot be read: {error}", rows.line_num) from error
                except UnicodeDecodeError:
                    message = "is not UTF-8 text: save it with the encoding UTF-8"
                    raise ProblemError(file, message, rows.line_num + 1) from None
        except OSError as error:
            raise ProblemError(file, f"cannot be read: {error.strerror}") from error

    def _read_rows(self, file: Path, rows: Any, problems: list[Problem]) -> None:
        header: list[str] = next(rows, [])
        image_at, label_at, confidence_at = _columns(file, header)
        source_at = header.index("Source") if "Source" in header else None
        wanted = self.wanted
        num_bad = 0
        for row in rows:
            try:
                if len(row) != len(header):
                    _check_width(row, len(header))
                    continue
                if wanted is not None and row[image_at] not in wanted:
                    self.num_others += 1
                    continue
                verdict = _verdict(row[confidence_at])
                if verdict is None or (source_at is not None and row[source_at] == "machine"):
                    continue
                self._add(row[image_at], row[label_at], verdict, (file, rows.line_num))
            except DataError as error:
                num_bad += 1
                if num_bad > _MAX_BAD_ROWS:
                    message = f"{error}; no more is read, as {_MAX_BAD_ROWS} rows before it are wrong too"
                    raise ProblemError(file, message, rows.line_num) from error
                problems.append(Problem(file, str(error), rows.line_num))

    def _add(self, image: str, label: str, verdict: int, place: tuple[Path, int]) -> None:
        if not image or not label:
            raise DataError("names no image or no label")
        self.places.setdefault(image, place)
        labels = self.of_image.setdefault(image, {})
        if labels.setdefault(intern(label), verdict) != verdict:
            labels[label] = CONTRADICTORY


def _columns(file: Path, header: Sequence[str]) -> list[int]:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ProblemError(
            file,
            f"has no column {' and no column '.join(missing)}: the first line is to be ImageID, Source, "
            f"LabelName, Confidence; it is {','.join(header)[:80]!r}",
            1,
        )
    return [header.index(name) for name in _COLUMNS]


def _check_width(row: Sequence[str], width: int) -> None:
    """Refuses a row of another width than the header's, unless it is empty.

    Raises:
        DataError: If it is one.
    """
    if row:
        raise DataError(f"has {len(row)} cells, but the header has {width}")


def _verdict(confidence: str) -> int | None:
    """Present or absent; None between them.

    Raises:
        DataError: If it is no number from 0 to 1.
    """
    verdict = _VERDICTS.get(confidence)
    if verdict is not None:
        return verdict
    try:
        number = float(confidence)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise DataError(f"the confidence is {confidence[:40]!r}: expected a number from 0 to 1")
    return int(number) if number in {PRESENT, ABSENT} else None
