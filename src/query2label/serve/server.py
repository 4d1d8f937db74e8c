"""The process around the application: its socket, its patience with connections, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from query2label.errors import ConfigError
from query2label.serve.limits import Limits
from query2label.serve.service import Service


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet.

    Args:
        host: Name or address; IPv6 without brackets.
        port: 0 for any that is free.

    Raises:
        ConfigError: If this machine does not have the address, or the port is taken.
    """
    with contextlib.ExitStack() as undo:
        try:
            # With the protocol named, asyncio turns Nagle's algorithm off, which would hold small answers
            # back for 40 milliseconds.
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = undo.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                f"Cannot serve at {host}, port {port}: {reason}; give another --host or --port."
            ) from None
        undo.pop_all()
    bound.set_inheritable(True)
    return bound


class Server(uvicorn.Server):
    """Serves an application until SIGTERM or SIGINT; what was taken until then is answered.

    Args:
        app: From `create_app`.
    """

    def __init__(self, app: FastAPI) -> None:
        self._service: Service = app.state.service
        self._loop: asyncio.AbstractEventLoop | None = None
        limits = self._service.limits
        config = uvicorn.Config(
            app,
            http=type("PatientProtocol", (_PatientProtocol,), {"limits": limits}),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(limits.body_seconds + limits.answer_seconds) + 1,
        )
        super().__init__(config)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on these sockets."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM ends after a pause, in which probes are told so; a second signal and SIGINT end at once."""
        if self._service.is_draining or sig != signal.SIGTERM:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.end()
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._service.limits.drain_seconds, self.end
            )
        self._service.is_draining = True

    def end(self) -> None:
        """Takes no more connections, and returns from `run` when all is answered."""
        self.should_exit = True


class _PatientProtocol(H11Protocol):
    """Cuts connections that take too long to say what they want.

    uvicorn waits without end for the rest of a request's headers, and of a body that was refused.
    """

    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._wait_for_request()
        super().on_response_complete()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._cut = self.loop.call_later(self.limits.body_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
