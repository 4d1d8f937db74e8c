"""One JSON line per request, written by a thread of its own: a reader that stands still stops nobody."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from typing import Any, Final

_MAX_WAITING: Final = 10_000
_CLOSE_SECONDS: Final = 2.0


class RequestLog:
    """Writes lines to a file descriptor, never waiting for it; what does not fit is counted and dropped.

    Args:
        descriptor: Where to; standard output is 1.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self.num_dropped = 0
        self._descriptor = descriptor
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="q2l-log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        """Takes a line."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self.num_dropped += 1

    def close(self) -> None:
        """Writes what waits, unless nobody reads it."""
        while not self._has_taken_the_end():
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()
                self.num_dropped += 1
        self._thread.join(_CLOSE_SECONDS)

    def _has_taken_the_end(self) -> bool:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except OSError:  # nobody reads any more
                    self.num_dropped += 1
                    break
