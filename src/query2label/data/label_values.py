"""Labels as JSON, text and Arrow values have them: names, or indices into a list of names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from query2label.data.annotation_files import check_label_name
from query2label.data.samples import ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet


class IndexLists:
    """Tells lists of indices from lists with a 1 or 0 for each of two labels, which look alike.

    If every list of some data has two numbers, each 0 or 1, they are not indices: every image would have both
    labels. One other value, say `[1]` or `[]`, tells that they are. (With more labels, a 1 or 0 for each
    repeats a number, which `named_labels` refuses.)
    """

    def __init__(self) -> None:
        self._first: tuple[Path, int | None] | None = None
        self._told = False

    def add(self, value: Any, path: Path, line: int | None = None) -> None:
        """Takes the labels of one image, as they stand at a place."""
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_target, value))):
            self._told = True
        elif self._first is None:
            self._first = (path, line)

    def check(self, names: LabelSet | None) -> None:
        """Refuses the data if nothing tells; `names` are what indices would count.

        Raises:
            ProblemError: If every list may be a 1 or 0 for each of two labels.
        """
        if self._first is not None and not self._told and (names is None or len(names) == 2):
            path, line = self._first
            message = (
                "has two labels that are 0 or 1, as has every other image, which reads as a 1 or 0 for each "
                "of two labels: write names, or only the indices of the labels that are there ([1] for 0, 1)"
            )
            raise ProblemError(path, message, line)


def named_labels(value: Any, names: LabelSet | None) -> tuple[str, ...]:
    """The names of the labels that a value gives.

    Args:
        value: A name, an index, or a list of those.
        names: What the indices count, from 0; without it an index is itself the name.

    Raises:
        DataError: If it is anything else, or an index is outside of the names, or is there twice. An unfit
            name is one, too.
    """
    values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    found: dict[str, None] = {}
    for each in values:
        if isinstance(each, str):
            check_label_name(each.strip())
            found[each.strip()] = None
        elif isinstance(each, int) and not isinstance(each, bool):
            name = _name(each, names)
            if name in found:
                raise DataError(
                    f"the labels have {each} in them twice: expected the index of each label that is there, "
                    "not a 1 or 0 for every label"
                )
            found[name] = None
        else:
            raise DataError(f"the labels have {_shortened(each)} in them: expected names or indices")
    return tuple(found)


def judged_once(positive: Collection[str], unknown: Collection[str]) -> frozenset[str]:
    """The unknown labels of an image.

    Raises:
        DataError: If one of them is positive.
    """
    twice = next((name for name in unknown if name in positive), None)
    if twice is not None:
        raise DataError(f"label {twice!r} is both given and unknown")
    return frozenset(unknown)


def in_order(labels: LabelSet) -> LabelSet:
    """Labels that are all numbers by their value; others as they are."""
    return LabelSet(sorted(labels, key=int)) if all(map(str.isdecimal, labels)) else labels


def _name(index: int, names: LabelSet | None) -> str:
    if index < 0:
        raise DataError(f"the labels have {index} in them: indices begin with 0")
    if names is None:
        return str(index)
    if index >= len(names):
        raise DataError(f"label index {index} is outside of the {len(names)} labels that are named")
    return names[index]


def _is_target(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in {0, 1}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
