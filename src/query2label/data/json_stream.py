"""Large JSON files, one element at a time: memory stays that of the largest element, not of the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from query2label.data.annotation_files import MAX_TEXT_BYTES, check_size
from query2label.data.samples import ProblemError

_CHUNK_BYTES: Final = 2**20
_WHITE_SPACE: Final = re.compile(r"[ \t\n\r]*")


def read_lists(path: Path, takers: Mapping[str, Callable[[Any], None]]) -> set[str]:
    """Hands the elements of some lists in a JSON file's top object to functions, as they are read.

    Args:
        path: The file.
        takers: Name of a list -> what gets its elements, in the order of the file. Other members of the top
            object are checked and dropped.

    Returns:
        Which of these lists are there; none if the file's value is no object.

    Raises:
        ProblemError: If the file cannot be read, is not JSON, is nested too deeply, or has a list twice.
    """
    found: set[str] = set()
    try:
        if check_size(path, MAX_TEXT_BYTES) == 0:
            return found
        with path.open("rb") as file:
            text = _Text(path, file)
            for name in _names_of_members(text):
                if name not in takers or not text.take("["):
                    text.value()
                    continue
                if name in found:
                    raise ProblemError(path, f"has two lists called {name!r}", text.line)
                found.add(name)
                for element in _elements(text):
                    takers[name](element)
    except OSError as error:
        raise ProblemError(path, f"cannot be read: {error.strerror}") from error
    return found


def _names_of_members(text: _Text) -> Iterator[str]:
    """Each name of the top object; the caller reads the value before it asks for the next."""
    if not text.take("{"):
        return
    is_last = text.take("}")
    while not is_last:
        text.expect('"', "Expecting property name enclosed in double quotes", move=False)
        name = text.value()
        text.expect(":", "Expecting ':' delimiter")
        yield name
        is_last = text.take("}")
        if not is_last:
            text.expect(",", "Expecting ',' delimiter")
    text.expect("", "Extra data")


def _elements(text: _Text) -> Iterator[Any]:
    """The elements of a list of which the bracket has been read."""
    if text.take("]"):
        return
    yield text.value()
    while not text.take("]"):
        text.expect(",", "Expecting ',' delimiter")
        yield text.value()


class _Text:
    """A window on the text of a file, which moves forward."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._decode_bytes = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decode_json = json.JSONDecoder().raw_decode
        self._window = ""
        self._at = 0
        self._is_end = False
        self._lines_before = 0
        self._columns_before = 0

    @property
    def line(self) -> int:
        """The number of the line that is being read."""
        return self._place(self._at)[0]

    def take(self, character: str) -> bool:
        """Steps over `character` (after white space) if it comes next."""
        is_next = self._peek() == character
        self._at += is_next
        return is_next

    def expect(self, character: str, otherwise: str, *, move: bool = True) -> None:
        """Refuses anything but `character` (the empty one: the end of the file)."""
        if self._peek() != character:
            self._refuse(otherwise, self._at)
        self._at += len(character) if move else 0

    def value(self) -> Any:
        """The JSON value that comes next.

        Raises:
            ProblemError: If it is no JSON that can be read.
        """
        self._peek()
        num_bytes = _CHUNK_BYTES
        while True:
            try:
                value, end = self._decode_json(self._window, self._at)
            except json.JSONDecodeError as error:
                # Broken, or not whole yet: only the rest of the file can tell.
                if not self._read(num_bytes):
                    self._refuse(error.msg, error.pos)
            except RecursionError:
                message = "is not read: its JSON is nested too deeply"
                raise ProblemError(self._path, message, self.line) from None
            except ValueError as error:
                raise ProblemError(self._path, f"is not valid JSON: {error}", self.line) from error
            else:
                # A number near the end of the window may go on: of `1e+5`, `1e+` may be all that is there.
                if end + 2 < len(self._window) or not self._read(num_bytes):
                    self._at = end
                    return value
            num_bytes *= 2

    def _peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self._at = _WHITE_SPACE.match(self._window, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._read(_CHUNK_BYTES):
                return ""

    def _read(self, num_bytes: int) -> bool:
        """Moves the window on to the present place and makes it longer.

        Returns:
            False if the end of the file is in the window already.

        Raises:
            ProblemError: If the text is not UTF-8.
        """
        if self._is_end:
            return False
        self._lines_before, self._columns_before = (number - 1 for number in self._place(self._at))
        content = self._file.read(num_bytes)
        self._is_end = not content
        try:
            more = self._decode_bytes(content, self._is_end)
        except UnicodeDecodeError as error:
            num_lines = self._window.count("\n", self._at) + error.object.count(b"\n", 0, error.start)
            message = "is not UTF-8 text: save it with the encoding UTF-8"
            raise ProblemError(self._path, message, self._lines_before + num_lines + 1) from None
        self._window = self._window[self._at :] + more
        self._at = 0
        return True

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of a place in the window, both counted from 1."""
        num_lines = self._window.count("\n", 0, at)
        if num_lines == 0:
            return self._lines_before + 1, self._columns_before + at + 1
        return self._lines_before + num_lines + 1, at - self._window.rindex("\n", 0, at)

    def _refuse(self, reason: str, at: int) -> None:
        line, column = self._place(at)
        raise ProblemError(self._path, f"is not valid JSON: {reason} (column {column})", line)
