"""What the label cells of a table say: one delimited column, or one column per label."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from query2label.data.annotation_files import check_label_name
from query2label.data.columns import Columns
from query2label.data.samples import Problem, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

Names = tuple[str, ...]
DELIMITERS: Final = "|;,"
_NOT_LABELS: Final = frozenset({"id", "index", "width", "height", "unnamed: 0"})
_TRUE, _FALSE, _UNKNOWN = 1, 0, -1


@dataclass
class LabelCells:
    """Gives the positive and the unknown labels of each row."""

    of_row: Callable[[int], tuple[Names, Names]]
    """Row number -> names, perhaps repeated; raises a `DataError` that says what is wrong in the row."""
    columns: tuple[str, ...]
    """The columns that were used."""
    labels: LabelSet | None = None
    """The label set where the columns fix it."""
    problems: list[Problem] = field(default_factory=list)


def one_label_column(columns: Columns, column: str, unknown_column: str | None) -> LabelCells:
    """Reads labels that stand together in one column, and optionally the unknown ones in another.

    The delimiter is the one of `|`, `;` and `,` that occurs in most cells (the first of them on a tie);
    where none occurs, each cell is one label. A space never separates. If every cell is a list in JSON or
    Python (`['sky', 'sun']`, as pandas writes them), those are read.
    """
    positive_cells = columns.cells[column]
    unknown_cells = columns.cells[unknown_column] if unknown_column is not None else []
    split = _splitter([*positive_cells, *unknown_cells])

    def of_row(row: int) -> tuple[Names, Names]:
        positive = split(positive_cells[row])
        unknown = split(unknown_cells[row]) if unknown_cells else ()
        for name in unknown:
            if name in positive:
                raise DataError(f"label {name!r} is both given and unknown")
        return positive, unknown

    used = (column,) if unknown_column is None else (column, unknown_column)
    return LabelCells(of_row, used)


def one_column_per_label(
    columns: Columns, candidates: Sequence[str], fixed: LabelSet | None
) -> LabelCells | None:
    """Reads labels that have a column each; None where no column looks like a label's.

    A column is a label's if its name is in the fixed label set, or at least half of what stands in it is 1,
    0 or -1; the rest of it is then a problem.

    Raises:
        ProblemError: If a column of the kind is not in the fixed label set, or its name is no label's.
    """
    found = [
        name
        for name in candidates
        if (fixed is not None and name in fixed) or looks_like_targets(name, columns.cells[name])
    ]
    if not found:
        return None
    for name in found:
        try:
            check_label_name(name)
            if fixed is not None:
                fixed.index(name)
        except DataError as error:
            raise ProblemError(columns.path, f"column {name!r}: {error}", 1) from error
    values = [columns.cells[name] for name in found]
    present = set(found)
    without_column = tuple(name for name in fixed or () if name not in present)

    def of_row(row: int) -> tuple[Names, Names]:
        positive: list[str] = []
        unknown = list(without_column)
        for name, cells in zip(found, values, strict=True):
            target = _target(cells[row])
            if target is None:
                raise DataError(f"column {name!r} has {cells[row]!r}: expected 1, 0, or nothing for unknown")
            if target == _TRUE:
                positive.append(name)
            elif target == _UNKNOWN:
                unknown.append(name)
        return tuple(positive), tuple(unknown)

    return LabelCells(of_row, tuple(found), fixed or LabelSet(found))


def looks_like_targets(name: str, cells: Sequence[Any]) -> bool:
    """Whether at least half of what stands in a column is 1, 0 or -1, and its name is no ordinary one."""
    if name.lower() in _NOT_LABELS:
        return False
    filled = [cell for cell in cells if not _is_empty(cell)]
    return bool(filled) and 2 * sum(_target(cell) is not None for cell in filled) >= len(filled)


def _is_empty(cell: Any) -> bool:
    return (
        cell is None
        or (isinstance(cell, str) and not cell.strip())
        or (isinstance(cell, float) and math.isnan(cell))
    )


def _target(cell: Any) -> int | None:
    """1, 0 or -1 as the cell says; None where it says something else."""
    if _is_empty(cell):
        return _UNKNOWN
    if isinstance(cell, str):
        return _TARGETS.get(cell.strip().lower())
    if isinstance(cell, int | float) and cell in {_TRUE, _FALSE, _UNKNOWN}:
        return int(cell)
    return None


_TARGETS: Final = {
    "1": _TRUE,
    "1.0": _TRUE,
    "true": _TRUE,
    "0": _FALSE,
    "0.0": _FALSE,
    "false": _FALSE,
    "-1": _UNKNOWN,
    "-1.0": _UNKNOWN,
}


def _splitter(cells: Sequence[Any]) -> Callable[[Any], Names]:
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if texts and all(text.strip().startswith("[") and text.strip().endswith("]") for text in texts):
        return _list_names
    counts = {mark: sum(mark in text for text in texts) for mark in DELIMITERS}
    best = max(DELIMITERS, key=lambda mark: counts[mark])
    delimiter = best if counts[best] else None
    return lambda cell: _names(cell, delimiter)


def _names(cell: Any, delimiter: str | None) -> Names:
    if _is_empty(cell):
        return ()
    if isinstance(cell, str):
        parts = cell.split(delimiter) if delimiter is not None else [cell]
        return _once_if_numbers(tuple(part.strip() for part in parts if part.strip()))
    if isinstance(cell, list):
        return _checked_list(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return (str(cell),)
    raise DataError(f"the labels are {cell!r}: expected text or a list of texts")


_PYTHON_TEXT: Final = re.compile(r"'[^'\\]*'|" + r'"[^"\\]*"')
_PYTHON_LIST: Final = re.compile(rf"\[\s*({_PYTHON_TEXT.pattern})(\s*,\s*({_PYTHON_TEXT.pattern}))*\s*\]")


def _list_names(cell: Any) -> Names:
    if not isinstance(cell, str) or not cell.strip():
        return _names(cell, None)
    if _PYTHON_LIST.fullmatch(cell.strip()):
        return _checked_list([text[1:-1] for text in _PYTHON_TEXT.findall(cell)])
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        raise DataError(f"the labels {cell[:60]!r} are not a valid JSON list") from None
    return _checked_list(value)


def _checked_list(value: list[Any]) -> Names:
    for name in value:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise DataError(f"the list of labels has {name!r} in it: expected texts")
    return _once_if_numbers(tuple(str(name).strip() for name in value))


def _once_if_numbers(names: Names) -> Names:
    """The names, if no number is there twice; a repeated name is a slip, 1 and 0 for every label are not.

    Raises:
        DataError: If a number is.
    """
    twice = next((name for name in repeated(names) if name.isdecimal()), None)
    if twice is not None:
        raise DataError(
            f"the labels have {twice} in them twice: give the labels that are there, not a 1 or 0 for every "
            "label (or a column for each)"
        )
    return names


def repeated(names: Names) -> Names:
    """Those that are there more than once."""
    return tuple(name for name, count in Counter(names).items() if count > 1)
