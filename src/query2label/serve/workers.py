"""Several processes that serve one socket and share nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final

from query2label.errors import Q2LError

Serve = Callable[[socket.socket], None]
"""Loads a model and serves it; must be picklable."""

_REFUSED: Final = 2
_PAUSE_SECONDS: Final = 1.0


def run_workers(serve: Serve, bound: socket.socket, *, num_workers: int) -> int:
    """Keeps so many processes serving until SIGTERM or SIGINT; gives the exit code.

    One that dies is replaced. One that cannot serve (a model that cannot be read) says so and ends all.
    """
    context = multiprocessing.get_context("spawn")

    def start() -> BaseProcess:
        process = context.Process(target=_run_worker, args=(serve, bound))
        process.start()
        return process

    with _stopping() as stop:
        workers = [start() for _ in range(num_workers)]
        while not stop.is_set():
            wait([worker.sentinel for worker in workers], timeout=0.2)
            dead = [worker for worker in workers if not worker.is_alive()]
            if any(worker.exitcode == _REFUSED for worker in dead):
                _end(workers)
                return _REFUSED
            if dead and not stop.is_set():
                time.sleep(_PAUSE_SECONDS)  # one that dies at once must not keep the machine busy
                workers = [start() if worker in dead else worker for worker in workers]
        _end(workers)
    return 0


def _end(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set inside the block."""
    stop = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _run_worker(serve: Serve, bound: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        serve(bound)
    except Q2LError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(_REFUSED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
