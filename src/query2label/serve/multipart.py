"""Forms with files, taken apart as they arrive and kept in memory: nothing of a request touches the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from query2label.serve.refusal import InvalidRequestError, TooLargeError

_MAX_FIELD_BYTES: Final = 10_000
_MAX_FIELDS: Final = 1_000
_MAX_NAME_CHARACTERS: Final = 200


@dataclass(frozen=True)
class SentImage:
    """An image file as it was sent."""

    data: bytes
    name: str | None


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    name: str = ""
    is_field: bool = False


class FormReader:
    """Takes the bytes of a `multipart/form-data` body and gives its images and its other fields.

    Args:
        content_type: Of the request, with its boundary.
        fields: Names that are options; every other part is an image.
        max_images: In one form.

    Raises:
        InvalidRequestError: If there is no boundary.
    """

    def __init__(self, content_type: str, *, fields: frozenset[str], max_images: int) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise InvalidRequestError("The Content-Type names no boundary.", code="invalid_form")
        self.images: list[SentImage] = []
        self.fields: dict[str, list[str]] = {}
        self._names = fields
        self._max_images = max_images
        self._num_fields = 0
        self._is_complete = False
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InvalidRequestError(_damaged(error), code="invalid_form") from None

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; too many images or fields are a `TooLargeError`.

        Raises:
            InvalidRequestError: If they are no such form.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequestError(_damaged(error), code="invalid_form") from None

    def finish(self) -> tuple[list[SentImage], Mapping[str, list[str]]]:
        """The images and the option fields.

        Raises:
            InvalidRequestError: If the form ends too early.
        """
        if not self._is_complete:
            raise InvalidRequestError(
                "The form is cut off: its last boundary is missing.", code="invalid_form"
            )
        return self.images, self.fields

    def _begin_part(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        self._part.headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _begin_data(self) -> None:
        part = self._part
        _, parameters = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = _text(parameters.get(b"name", b""))
        part.is_field = part.name in self._names and b"filename" not in parameters
        if part.is_field:
            self._num_fields += 1
            if self._num_fields > _MAX_FIELDS:
                raise TooLargeError(f"The form has more than {_MAX_FIELDS} option fields.")
        elif len(self.images) >= self._max_images:
            raise TooLargeError(too_many_images(self._max_images), code="too_many_images")
        else:
            part.name = _text(parameters.get(b"filename", b""))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self._part.data += data[start:end]
        if self._part.is_field and len(self._part.data) > _MAX_FIELD_BYTES:
            raise TooLargeError(f"The field {self._part.name} has more than {_MAX_FIELD_BYTES} bytes.")

    def _end_part(self) -> None:
        part = self._part
        if part.is_field:
            self.fields.setdefault(part.name, []).append(_text(bytes(part.data)))
        else:
            self.images.append(SentImage(bytes(part.data), part.name[:_MAX_NAME_CHARACTERS] or None))
        self._part = _Part()

    def _end(self) -> None:
        self._is_complete = True


def too_many_images(limit: int) -> str:
    """What a request with more images is told."""
    return f"One request may hold {limit} images: send the others in the next."


def _damaged(error: FormParserError) -> str:
    return f"The body is not the form that it says it is: {str(error)[:120]}."


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
