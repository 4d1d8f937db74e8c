"""What every request passes on its way in and out: token, safe headers, metrics, log, unexpected errors."""

from __future__ import annotations

import hmac
import secrets
import time
import traceback
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from query2label.serve.metrics import Metrics
from query2label.serve.refusal import RequestError, error_response
from query2label.serve.request_log import RequestLog

LOGGED: Final = "q2l.logged"
"""Key of the request's scope under which a route leaves what the log shall say of it."""
_SAFE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_DISCONNECTED: Final = 499
"""Logged where nobody was left to take the answer."""


class Gate:
    """ASGI middleware around all routes.

    Args:
        app: What it guards.
        metrics: Are told of every request.
        log: Gets a line of every request; None for no log.
        token: What a request must bear; None to let everybody in.
        open_paths: Paths that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log: RequestLog | None,
        token: str | None,
        open_paths: frozenset[str],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._token = None if token is None else token.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send)
        try:
            if self._lets_in(scope):
                await self._app(scope, passage.receive, passage.send)
            else:
                await passage.answer(_not_let_in())
        except ClientDisconnect:
            passage.status = passage.status or _DISCONNECTED
        except Exception:  # noqa: BLE001  # the sender gets an answer, the log the traceback, and others go on
            passage.logged["traceback"] = traceback.format_exc()
            await passage.answer(
                RequestError(500, "internal", "The service failed on this request; its log has the reason.")
            )
        finally:
            self._note(passage)

    def _lets_in(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in self._open_paths:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        return is_right and scheme.lower() == "bearer"

    def _note(self, passage: _Passage) -> None:
        seconds = time.perf_counter() - passage.started
        route = getattr(passage.scope.get("route"), "path", "unknown")
        self._metrics.count_request(route, passage.status, seconds)
        if self._log is not None:
            self._log.write(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "request": passage.request_id,
                    "method": passage.scope["method"][:16],
                    "route": route,
                    "status": passage.status,
                    "seconds": round(seconds, 4),
                    "bytes_in": passage.num_bytes,
                    **passage.logged,
                }
            )


class _Passage:
    """One request on its way: counts its bytes, and adds headers to its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.started = time.perf_counter()
        self.request_id = secrets.token_hex(8)
        self.status = 0
        self.num_bytes = 0
        self.logged: dict[str, Any] = scope.setdefault(LOGGED, {})
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.num_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers.setdefault("Cache-Control", "no-store")
            for name, value in _SAFE_HEADERS.items():
                headers[name] = value
        await self._send(message)

    async def answer(self, refusal: RequestError) -> None:
        """Answers with an error, where nothing was answered yet."""
        if not self.status:
            response: Response = error_response(refusal)
            await response(self.scope, self.receive, self.send)


def _not_let_in() -> RequestError:
    return RequestError(
        401,
        "unauthorized",
        "This service wants a token: send the header Authorization: Bearer TOKEN.",
        headers={"WWW-Authenticate": "Bearer"},
    )
