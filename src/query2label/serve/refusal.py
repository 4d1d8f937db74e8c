"""A request that is not answered, and the one JSON form in which that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

from query2label.errors import Q2LError
from query2label.serve.schemas import BrokenImage, ErrorAnswer, Problem

RETRY_SECONDS = 1
"""What `Retry-After` says: a queue this short has room again within a second."""


class RequestError(Q2LError):
    """Why a request is refused.

    Args:
        status: HTTP status.
        code: Short name for programs, such as `overloaded`.
        message: One sentence for people.
        images: Broken images, where they are the reason.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        images: Sequence[BrokenImage] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.images = list(images)
        self.headers = dict(headers or {})


class BusyError(RequestError):
    """A request that another try may not meet: 503 with `Retry-After`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(503, code, f"{message}: try again.", headers={"Retry-After": str(RETRY_SECONDS)})


class InvalidRequestError(RequestError):
    """A request that is wrong, however often it is sent: 422."""

    def __init__(
        self, message: str, *, code: str = "invalid_request", images: Sequence[BrokenImage] = ()
    ) -> None:
        super().__init__(422, code, message, images=images)


class TooLargeError(RequestError):
    """A request that holds more than it may: 413."""

    def __init__(self, message: str, *, code: str = "too_large") -> None:
        super().__init__(413, code, message)


def first_problem(errors: Sequence[Any]) -> str:
    """What pydantic found wrong first, as one sentence."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
    reason = str(first["msg"]).rstrip(".")
    return f"{place[:80] + ': ' if place else ''}{reason[:200]}."


def error_response(refusal: RequestError) -> Response:
    """The answer that says so."""
    problem = Problem(code=refusal.code, message=str(refusal), images=refusal.images)
    return Response(
        ErrorAnswer(error=problem).model_dump_json(exclude_defaults=True),
        status_code=refusal.status,
        media_type="application/json",
        headers=refusal.headers,
    )
