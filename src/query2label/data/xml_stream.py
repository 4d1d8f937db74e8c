"""Large XML files, one element at a time, without document types and entities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable
from xml.parsers import expat

from query2label.data.annotation_files import MAX_TEXT_BYTES, check_size
from query2label.data.samples import ProblemError
from query2label.errors import DataError

_CHUNK_BYTES: Final = 2**16
_MAX_TOKEN_BYTES: Final = 16 * 2**20
_MAX_TEXT_LENGTH: Final = 10_000
_MAX_DEPTH: Final = 100


@runtime_checkable
class ElementHandler(Protocol):
    """What is told of each element."""

    def start(self, tags: tuple[str, ...], attributes: Mapping[str, str], line: int) -> None:
        """An element begins; `tags` are those of the elements around it and its own, from the root on."""

    def end(self, tags: tuple[str, ...], text: str, line: int) -> None:
        """An element ends; `text` is what stands right before that, after its last child."""


def read_elements(path: Path, handler: ElementHandler) -> None:
    """Tells `handler` of each element of an XML file, in order; the file is never held as a whole.

    A `DataError` that the handler raises becomes the problem of the line that it was told of.

    Raises:
        ProblemError: If the file cannot be read, is not XML, declares a document type or entity, or has a
            single tag of many megabytes.
    """
    reader = _Reader(path, handler)
    try:
        check_size(path, MAX_TEXT_BYTES)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                reader.feed(chunk)
        reader.feed(b"", is_last=True)
    except OSError as error:
        raise ProblemError(path, f"cannot be read: {error.strerror}") from error


class _Reader:
    def __init__(self, path: Path, handler: ElementHandler) -> None:
        self._path = path
        self._handler = handler
        self._tags: tuple[str, ...] = ()
        self._text = ""
        self._num_bytes = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_declaration
        self._parser.EntityDeclHandler = self._refuse_declaration

    def feed(self, chunk: bytes, *, is_last: bool = False) -> None:
        self._num_bytes += len(chunk)
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            is_cut_off = is_last and error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]
            reason = "it ends too early" if is_cut_off else expat.ErrorString(error.code)
            raise ProblemError(self._path, f"is not valid XML: {reason}", error.lineno) from error
        except (ValueError, LookupError) as error:  # an encoding that nobody knows
            raise ProblemError(self._path, f"is not valid XML: {error}", self._line) from error
        if self._num_bytes - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            megabytes = _MAX_TOKEN_BYTES // 2**20
            raise ProblemError(self._path, f"has a tag of more than {megabytes} megabytes", self._line)

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._tags) >= _MAX_DEPTH:
            raise ProblemError(self._path, "is not read: its XML is nested too deeply", self._line)
        self._tags = (*self._tags, tag)
        self._text = ""
        try:
            self._handler.start(self._tags, attributes, self._line)
        except DataError as error:
            raise self._placed(error) from error

    def _end(self, _tag: str) -> None:
        try:
            self._handler.end(self._tags, self._text, self._line)
        except DataError as error:
            raise self._placed(error) from error
        self._tags = self._tags[:-1]
        self._text = ""

    def _placed(self, error: DataError) -> ProblemError:
        return error if isinstance(error, ProblemError) else ProblemError(self._path, str(error), self._line)

    def _characters(self, text: str) -> None:
        if len(self._text) < _MAX_TEXT_LENGTH:
            self._text += text

    def _refuse_declaration(self, *_args: Any) -> None:
        message = "declares a document type or entities, which are refused: remove them"
        raise ProblemError(self._path, message, self._line)
