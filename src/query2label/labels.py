"""The ordered set of label names that a model's outputs stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from query2label.errors import DataError

UNKNOWN: Final = -1
"""Target of a label that nobody has judged: it adds nothing to loss, gradient or metrics."""


class LabelSet:
    """Ordered, unique label names; the position of a name is the model's output index.

    Args:
        names: One name per output, in output order.

    Raises:
        DataError: If there is no name, or a name is empty, has outer white space, or occurs twice.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self._index = {name: index for index, name in enumerate(self.names)}
        if not self.names:
            raise DataError("There are no labels: at least one label name is needed.")
        for name in self.names:
            if not isinstance(name, str) or not name or name != name.strip():
                raise DataError(f"Label name {name!r} is empty or has outer white space: write it without.")
        if len(self._index) < len(self.names):
            twice = next(name for i, name in enumerate(self.names) if self._index[name] != i)
            raise DataError(f"Label {twice!r} occurs twice in the list of labels: names must be unique.")

    def index(self, name: str) -> int:
        """Output index of `name`.

        Raises:
            DataError: If there is no such label; the message offers the nearest names.
        """
        try:
            return self._index[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.names, n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise DataError(
                f"Unknown label {name!r}: the {len(self)} known labels begin with "
                f"{', '.join(self.names[:5])}.{hint}"
            ) from None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"LabelSet({list(self.names)!r})"
