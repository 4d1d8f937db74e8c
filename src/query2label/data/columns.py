"""Tables as columns of raw cells: CSV, TSV, JSON lines and Parquet files read the same way."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from query2label.data.annotation_files import MAX_TEXT_BYTES, parse_json, read_text
from query2label.data.samples import Problem, ProblemError
from query2label.errors import DataError
from query2label.extras import import_extra

TABLE_SUFFIXES: Final = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet")
IMAGE_COLUMNS: Final = (
    *("image", "path", "file", "filename", "file_name", "image_path", "image_file", "filepath", "file_path"),
    *("image_name", "img", "img_path", "photo", "images", "imagepath", "imagename"),
)
LABEL_COLUMNS: Final = (
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "targets"),
)
UNKNOWN_COLUMNS: Final = ("unknown", "unknown_labels")
SPLIT_COLUMNS: Final = ("split", "subset", "fold", "split_name")

_FEW_CELLS: Final = 50_000_000
_CELLS_PER_BYTE: Final = 8
"""A small file may stand for a large table: lines with a column each, a value that a Parquet file repeats."""


@dataclass
class Columns:
    """The cells of a table, one list per column, and the line that each row began in (Parquet: its row)."""

    path: Path
    cells: dict[str, list[Any]]
    lines: list[int]
    problems: list[Problem] = field(default_factory=list)

    def find(self, names: tuple[str, ...]) -> str | None:
        """The column called by the first of `names` that there is, whatever its case."""
        by_lower = {column.lower(): column for column in reversed(self.cells)}
        return next((by_lower[name] for name in names if name in by_lower), None)


def read_columns(path: Path) -> Columns:
    """The raw cells of a table file; rows that cannot be read are kept as problems.

    It is refused with a `ProblemError` if it cannot be read at all, has no header, or names a column twice.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in {".jsonl", ".ndjson"}:
        return _read_json_lines(path)
    return _read_csv(path)


def _read_csv(path: Path) -> Columns:
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.append(Problem(path, f"this row cannot be read: {error}", line))
            continue
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = _header(path, row, line)
        elif len(row) != len(header):
            problems.append(Problem(path, f"has {len(row)} cells, but the header has {len(header)}", line))
        else:
            rows.append(row)
            lines.append(line)
    if header is None:
        raise ProblemError(path, "has no header: the first line has to name the columns", 1)
    cells = {name: [row[place] for row in rows] for place, name in enumerate(header) if name}
    return Columns(path, cells, lines, problems)


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() in {".tsv", ".tab"}:
        return "\t"
    first_line = text.lstrip("\r\n").partition("\n")[0]
    return next((mark for mark in ",;\t" if mark in first_line), ",")


def _header(path: Path, row: list[str], line: int) -> list[str]:
    names = [cell.strip() for cell in row]
    counts = Counter(name for name in names if name)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ProblemError(path, f"column {twice!r} occurs twice in the header", line)
    return names


def _read_json_lines(path: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[Problem] = []
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = parse_json(text)
        except DataError as error:
            problems.append(Problem(path, f"this line {error}", number))
            continue
        if not isinstance(row, dict):
            problems.append(Problem(path, "this line is no JSON object: write {...} in each line", number))
            continue
        rows.append(row)
        lines.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    _check_cells(path, len(rows), len(names))
    return Columns(path, {name: [row.get(name) for row in rows] for name in names}, lines, problems)


def _check_cells(path: Path, num_rows: int, num_columns: int) -> None:
    if num_rows * num_columns > max(_FEW_CELLS, _CELLS_PER_BYTE * path.stat().st_size):
        raise ProblemError(
            path,
            f"has {num_rows:,} rows and {num_columns:,} columns, mostly empty or alike, which are more cells "
            "than are read: give all labels of an image in one column",
        )


def _read_parquet(path: Path) -> Columns:
    parquet = import_extra("pyarrow.parquet", extra="parquet", purpose="Reading Parquet files")
    arrow = import_extra("pyarrow", extra="parquet", purpose="Reading Parquet files")
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ProblemError(path, f"has more than the {MAX_TEXT_BYTES:,} bytes that are read")
    try:
        metadata = parquet.read_metadata(path)
        _check_cells(path, metadata.num_rows, metadata.num_columns)
        schema = parquet.read_schema(path)
        # Embedded pixels are not read: the rows have to name image files. Dates are nothing either, and not
        # all of them are Python's.
        left_out = (arrow.types.is_binary, arrow.types.is_temporal, arrow.types.is_nested)
        names = [
            part.name
            for part in schema
            if arrow.types.is_list(part.type) or not any(is_one(part.type) for is_one in left_out)
        ]
        cells: dict[str, list[Any]] = parquet.read_table(path, columns=names).to_pydict()
    except (arrow.ArrowException, OSError, OverflowError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ProblemError(path, f"is not a readable Parquet file: {reason}") from error
    length = len(next(iter(cells.values()), []))
    return Columns(path, cells, list(range(1, length + 1)))
