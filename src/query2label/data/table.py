"""Tables: one row per image, labels in one column or in one column per label.

The image column is called `image`, `path`, `file`, `filename` or alike. Labels stand either in one column
(`labels`, `tags`, ...), joined by `|`, `;` or `,` or as a list in JSON or Python, or in one column per label
with 1, 0, and empty or -1 for unknown. A column `split` and, beside a label column, a column `unknown`
(labels nobody has judged, written like the labels) are optional; other columns are left out and noted.

Label order: the `labels` argument; else the file `<table's name>.labels.txt` beside the table (one name per
line, as `write_table` makes it); else alphabetical, or, for one column per label, the order of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from query2label.data.annotation_files import check_label_name, read_label_names, split_name
from query2label.data.archive_names import ArchiveNames
from query2label.data.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    TABLE_SUFFIXES,
    UNKNOWN_COLUMNS,
    Columns,
    read_columns,
)
from query2label.data.contents import ImageContent
from query2label.data.image_root import ImageRoot, refuse_outside
from query2label.data.label_cells import (
    LabelCells,
    looks_like_targets,
    one_column_per_label,
    one_label_column,
    repeated,
)
from query2label.data.label_values import IndexLists
from query2label.data.samples import Dataset, Problem, ProblemError, Sample
from query2label.errors import DataError
from query2label.labels import LabelSet


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    content: ImageContent | None
    positive: tuple[str, ...]
    unknown: tuple[str, ...]
    split: str | None
    line: int


def read(
    path: Path, *, labels: LabelSet | None = None, image_root: Path | None = None, check_files: bool = True
) -> Dataset:
    """Reads a table, or a folder with exactly one table in it.

    Args:
        path: A CSV, TSV, JSON lines or Parquet file, or the folder with one.
        labels: The label set and its order; a label that is not in it is a problem. A label of it that has no
            column in a table with one column per label is unknown everywhere.
        image_root: Folder that image names are relative to; the table's folder where it is left out.
        check_files: Whether a missing image file is a problem.

    Returns:
        The images in the order of the rows; rows with problems are left out.

    Raises:
        ProblemError: If no row can be used, or the file cannot be read, or has no column with images or none
            with labels.
    """
    table = path if not path.is_dir() else only_table(path)
    columns = read_columns(table)
    fixed = labels if labels is not None else _label_file(table)
    cells = _label_cells(columns, fixed)
    problems = [*columns.problems, *cells.problems]
    root = ImageRoot(image_root or table.parent, check_files=check_files)
    warnings: list[Problem] = []
    rows = _rows(columns, cells, root, problems, warnings, has_label_set=fixed is not None)
    if not rows and problems:
        first = problems[0]
        raise ProblemError(
            table, f"has no row that can be used; the first because: {first.message}", first.line
        )
    label_set = fixed or cells.labels or _used_labels(table, rows)
    samples = _samples(table, rows, label_set, problems)
    problems.sort(key=lambda problem: problem.line or 0)
    return Dataset(label_set, samples, path, "table", problems, _notes(columns, cells), warnings)


def looks_like(path: Path) -> bool:
    """Whether `path` is a table, by its name, or has one in it."""
    return path.suffix.lower() in TABLE_SUFFIXES if path.is_file() else bool(tables_in(path))


def tables_in(folder: Path) -> list[Path]:
    """The table files right in a folder."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in TABLE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def only_table(folder: Path) -> Path:
    """The one table file in a folder.

    Raises:
        DataError: If there is none, or more than one.
    """
    tables = tables_in(folder)
    if not tables:
        raise DataError(f"{folder} has no table in it: expected one of *{', *'.join(TABLE_SUFFIXES)}.")
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables[:5])
        raise DataError(f"{folder} has several tables in it ({names}): name the one that is meant.")
    refuse_outside(tables[0], folder)
    return tables[0]


def label_file_of(table: Path) -> Path:
    """Where a table's label order is kept."""
    return table.with_name(f"{table.stem}.labels.txt")


def _label_file(table: Path) -> LabelSet | None:
    file = label_file_of(table)
    if not file.is_file():
        return None
    refuse_outside(file, table.parent)
    return read_label_names(file)


def _label_cells(columns: Columns, fixed: LabelSet | None) -> LabelCells:
    column = columns.find(LABEL_COLUMNS)
    others = {columns.find(names) for names in (IMAGE_COLUMNS, SPLIT_COLUMNS)}
    candidates = [name for name in columns.cells if name not in others]
    unknown_column = columns.find(UNKNOWN_COLUMNS)
    targets = {name for name in candidates if looks_like_targets(name, columns.cells[name])}
    # A column `tag` with 1 and 0 in it, beside others of the kind, is that of a label called so.
    if column is not None and not (column in targets and targets - {column, unknown_column}):
        return one_label_column(columns, column, unknown_column)
    cells = one_column_per_label(columns, candidates, fixed)
    if cells is None:
        raise ProblemError(
            columns.path,
            f"has no labels: neither a column called {', '.join(LABEL_COLUMNS[:4])} or alike, nor columns "
            f"with 1, 0 or nothing in them; the columns are {_named(columns)}",
            1,
        )
    return cells


def _named(columns: Columns) -> str:
    return ", ".join(map(repr, list(columns.cells)[:8])) + (" ..." if len(columns.cells) > 8 else "")


def _rows(
    columns: Columns,
    cells: LabelCells,
    root: ImageRoot,
    problems: list[Problem],
    warnings: list[Problem],
    *,
    has_label_set: bool,
) -> list[_Row]:
    image_column = columns.find(IMAGE_COLUMNS)
    if image_column is None:
        raise ProblemError(
            columns.path,
            f"has no column with images: looked for {', '.join(IMAGE_COLUMNS[:6])} and alike; "
            f"the columns are {_named(columns)}",
            1,
        )
    split_column = columns.find(SPLIT_COLUMNS)
    splits = columns.cells[split_column] if split_column is not None else [None] * len(columns.lines)
    rows: list[_Row] = []
    names = ArchiveNames(root)
    lists = IndexLists()
    first_lines: dict[Path, int] = {}
    for place, (line, image, split) in enumerate(
        zip(columns.lines, columns.cells[image_column], splits, strict=True)
    ):
        try:
            path, content = names.locate(_image_name(image))
            if path in first_lines:
                raise DataError(f"image {image!r} stands already in line {first_lines[path]}: one row each")
            first_lines[path] = line
            positive, unknown = cells.of_row(place)
            lists.add([int(name) if name in {"0", "1"} else name for name in positive], columns.path, line)
            rows.append(_Row(path, content, _once(positive), _once(unknown), _split(split), line))
            twice = repeated(positive)
            warnings += [Problem(columns.path, f"label {name!r} is given twice", line) for name in twice]
        except DataError as error:
            problems.append(Problem(columns.path, str(error), line))
    if cells.labels is None and not has_label_set:
        lists.check(None)
    return rows


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _image_name(cell: Any) -> str:
    if not isinstance(cell, str):
        raise DataError(f"the image is {cell!r}, not the name of a file")
    return cell.strip()


def _split(cell: Any) -> str | None:
    name = split_name(cell) if isinstance(cell, str) else "" if cell is None else str(cell)
    if not name.isprintable():
        raise DataError(f"the split {name!r} has characters that cannot be shown")
    return name or None


def _used_labels(table: Path, rows: list[_Row]) -> LabelSet:
    names = {name for row in rows for name in (*row.positive, *row.unknown)}
    for name in sorted(names):
        try:
            check_label_name(name)
        except DataError as error:
            line = next(row.line for row in rows if name in (*row.positive, *row.unknown))
            raise ProblemError(table, str(error), line) from error
    if not names:
        raise ProblemError(table, "has no label in any row")
    return LabelSet(sorted(names))


def _samples(table: Path, rows: list[_Row], labels: LabelSet, problems: list[Problem]) -> list[Sample]:
    samples: list[Sample] = []
    for row in rows:
        try:
            positive = tuple(sorted(map(labels.index, row.positive)))
            unknown = tuple(sorted(map(labels.index, row.unknown)))
        except DataError as error:
            problems.append(Problem(table, str(error), row.line))
            continue
        samples.append(Sample(row.path, positive, unknown, (), row.split, row.content))
    return samples


def _notes(columns: Columns, cells: LabelCells) -> list[str]:
    used = {columns.find(names) for names in (IMAGE_COLUMNS, SPLIT_COLUMNS)} | set(cells.columns)
    spare = [name for name in columns.cells if name not in used]
    shown = ", ".join(name if name.isprintable() else repr(name) for name in spare)
    return [f"Columns that were not used: {shown}."] if spare else []
