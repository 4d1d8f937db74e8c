"""Labels as JSON, text and Arrow values have them: names, or indices into a list of names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from query2label.data.annotation_files import check_label_name
from query2label.errors import DataError
from query2label.labels import LabelSet


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


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
