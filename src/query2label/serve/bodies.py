"""The body of a request: read within bounds of size and time, and taken apart into images and options."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fastapi import Request
from pydantic import ValidationError

from query2label.serve.limits import Limits
from query2label.serve.multipart import FormReader, SentImage, too_many_images
from query2label.serve.options import Options
from query2label.serve.refusal import (
    BusyError,
    InvalidRequestError,
    RequestError,
    TooLargeError,
    first_problem,
)
from query2label.serve.schemas import PredictJson, PredictQuery

_FIELDS: Final = frozenset(PredictQuery.model_fields)
_BARE_TYPES: Final = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class Upload:
    """What a body holds."""

    images: list[SentImage]
    options: Options
    unreadable: dict[int, str] = field(default_factory=dict)
    """By index, why an image was not even bytes."""


class Buffers:
    """Counts the bytes of all bodies in memory, and refuses what would be too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes in memory now."""
        return self._used

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Callable[[int], None]]:
        """Gives a function that takes so many bytes more, or refuses; the end of the block gives back."""
        taken = 0

        def take(num_bytes: int) -> None:
            nonlocal taken
            if self._used + num_bytes > self._limit:
                raise BusyError("overloaded", "The service holds all bytes that it may")
            self._used += num_bytes
            taken += num_bytes

        try:
            yield take
        finally:
            self._used -= taken


class InThread(Protocol):
    """Runs a function beside the event loop."""

    async def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Its result."""
        ...


async def read_upload(
    request: Request, limits: Limits, *, take_bytes: Callable[[int], None], in_thread: InThread
) -> Upload:
    """The images and options of a request's body.

    Args:
        request: Not read yet.
        limits: What it may hold, and how long it may take.
        take_bytes: Is told of every byte that is kept, and may refuse.
        in_thread: For what takes longer than the event loop may stand still.

    Raises:
        TooLargeError: If it has too many bytes or images.
        InvalidRequestError: If it holds no image, or is not what it says it is.
        RequestError: If it is too slow, or of a kind that is not understood.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limits.max_body_bytes:
        raise TooLargeError(_too_large(limits), code="body_too_large")
    try:
        async with asyncio.timeout(limits.body_seconds):
            upload = await _read(request, _bounded(request, limits, take_bytes), limits, in_thread)
    except TimeoutError:
        raise RequestError(
            408,
            "too_slow",
            f"The body did not arrive within {limits.body_seconds:g} seconds.",
            headers={"Connection": "close"},
        ) from None
    if not upload.images:
        raise InvalidRequestError("The request holds no image.", code="no_image")
    if len(upload.images) > limits.queue:
        raise TooLargeError(too_many_images(limits.queue), code="too_many_images")
    return upload


async def _bounded(
    request: Request, limits: Limits, take_bytes: Callable[[int], None]
) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_body_bytes:
            raise TooLargeError(_too_large(limits), code="body_too_large")
        take_bytes(len(chunk))
        yield chunk


async def _read(
    request: Request, chunks: AsyncIterator[bytes], limits: Limits, in_thread: InThread
) -> Upload:
    content_type = request.headers.get("content-type", "application/octet-stream")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = FormReader(content_type, fields=_FIELDS, max_images=limits.queue)
        async for chunk in chunks:
            form.feed(chunk)
        images, fields = form.finish()
        return Upload(images, Options.of_form(fields))
    if kind == "application/json":
        upload: Upload = await in_thread(_from_json, b"".join([chunk async for chunk in chunks]))
        return upload
    if kind.startswith(_BARE_TYPES):
        data = b"".join([chunk async for chunk in chunks])
        return Upload([SentImage(data, None)] if data else [], Options())
    raise RequestError(
        415,
        "unsupported_media_type",
        f"A body of type {kind[:80]!r} is not understood: send image/jpeg (or any other image type), "
        "application/octet-stream, multipart/form-data or application/json.",
    )


def _from_json(body: bytes) -> Upload:
    try:
        parsed = PredictJson.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequestError(
            first_problem(error.errors(include_url=False, include_input=False))
        ) from None
    images, unreadable = [], {}
    for index, image in enumerate(parsed.images):
        text, name = (image, None) if isinstance(image, str) else (image.data, image.name)
        try:
            data = _from_base64(text)
        except (binascii.Error, ValueError):
            data = b""
            unreadable[index] = "It is not base64 of an image file (URLs are not fetched)."
        images.append(SentImage(data, name if name is None else name[:200]))
    return Upload(images, Options.of_json(parsed), unreadable)


def _from_base64(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    return base64.b64decode(text, validate=True)


def _too_large(limits: Limits) -> str:
    return f"A request may hold {limits.max_body_bytes / 1e6:g} MB: send fewer images at once."
