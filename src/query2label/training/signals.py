"""Stopping politely: a signal asks, and the loop answers at the next step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from query2label.errors import TrainingError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunInterruptedError(TrainingError):
    """A signal stopped the run; it was saved and can be resumed.

    Args:
        message: One sentence for people.
        signal_number: The signal; the process should exit with 128 + it.
    """

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class StopRequest:
    """Remembers the first stop signal: `signal_number` is 0 until one came."""

    def __init__(self) -> None:
        self.signal_number = 0

    def ask(self, signal_number: int, frame: FrameType | None = None) -> None:
        """Notes a signal. A second Ctrl-C interrupts at once."""
        del frame
        if self.signal_number and signal_number == signal.SIGINT:
            signal.default_int_handler(signal_number, None)
        self.signal_number = signal_number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns SIGTERM and SIGINT into a `StopRequest` inside the block.

    Signals can only be caught in the main thread; elsewhere nothing is installed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.ask) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
