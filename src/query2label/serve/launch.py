"""From the options of `q2l serve` to a service that runs."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from query2label.formats import RuntimeName
from query2label.serve.app import create_app
from query2label.serve.limits import Limits
from query2label.serve.model import ServedModel
from query2label.serve.request_log import RequestLog
from query2label.serve.server import Server


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All that a process needs to serve; each worker gets a copy, and loads the model itself."""

    model: str | None
    runtime: RuntimeName
    device: str
    threads: int | None
    limits: Limits
    token: str | None
    is_logged: bool

    def __call__(self, bound: socket.socket) -> None:
        """Loads the model and serves it on a bound socket; errors are those of `Predictor.load`."""
        log = RequestLog() if self.is_logged else None
        app = create_app(self.load(), limits=self.limits, token=self.token, log=log)
        try:
            Server(app).run(sockets=[bound])
        finally:
            if log is not None:
                log.close()

    def load(self) -> ServedModel:
        """The model."""
        return ServedModel.load(self.model, runtime=self.runtime, device=self.device, threads=self.threads)
