"""Work done in order by processes that may die or hang, without losing track of what each was doing.

PyTorch's `DataLoader` reports a dead worker by raising from a signal handler, anywhere in the training step,
and does not know what the worker was at. Here each process has a pipe of its own, results are taken in order,
and a death or a hang is noticed exactly where its result is waited for.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, Generic, TypeAlias, TypeVar

import torch

from query2label.allocator import release_freed_memory
from query2label.errors import Q2LError

Job = TypeVar("Job")
Result = TypeVar("Result")
Report: TypeAlias = Callable[[int], None]
"""Called by the work with the number of the item it is about to begin."""

JOBS_AHEAD: Final = 2
"""Jobs that each process may be ahead of what was taken from it."""

DYING_SECONDS: Final = 2
"""A process whose pipe is closed has so long to end by itself, and tell why."""

_NOTHING: Final = -1
_FORK: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1


class LostJobError(Exception):
    """A job has no result: its process died twice over it, or took too long.

    Attributes:
        position: Which job.
        item: What the job was about to do when it was lost, as it reported; None if it had not begun.
        reason: What happened, as the end of a sentence that begins with the process.
    """

    def __init__(self, position: int, item: int | None, reason: str) -> None:
        super().__init__(f"job {position}, item {item}: {reason}")
        self.position = position
        self.item = item
        self.reason = reason


def ordered_results(
    work: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    *,
    num_workers: int,
    timeout_seconds: float = 0.0,
) -> Iterator[Result]:
    """The results of all jobs, in their order, each job done by one of several processes.

    A process that dies is replaced, and what it had not delivered is done again, once per job. The
    processes end when the iterator is closed or exhausted, and with this process, however that ends. They
    take no notice of Ctrl-C, which is this process's to handle.

    Args:
        work: Does one job; the same result whichever process does it, and when. An error that it raises is
            raised here.
        jobs: What is to be done.
        num_workers: Processes; 0 works in this one, where nothing watches over it.
        timeout_seconds: Longest wait for one result; 0 waits for ever.

    A job that kills its process twice, or takes too long, is a `LostJobError`.
    """
    if num_workers == 0:
        for job in jobs:
            yield work(job, _ignore)
        return
    num_lanes = min(num_workers, len(jobs))
    lanes: list[_Lane[Job, Result]] = []
    try:
        for first in range(num_lanes):
            lane = _Lane(work, jobs, range(first, len(jobs), num_lanes), timeout_seconds)
            lanes.append(lane)  # at once: whatever happens next, it has to be stopped
        for position in range(len(jobs)):
            yield lanes[position % num_lanes].take(position)
    finally:
        for lane in lanes:
            lane.stop()


class _Lane(Generic[Job, Result]):
    """One process after the other, working on every n-th job."""

    def __init__(
        self,
        work: Callable[[Job, Report], Result],
        jobs: Sequence[Job],
        positions: range,
        timeout_seconds: float,
    ) -> None:
        self.work = work
        self.jobs = jobs
        self.positions = positions
        self.timeout_seconds = timeout_seconds
        self.retried: set[int] = set()
        self._start(positions.start)

    def take(self, position: int) -> Result:
        """The result of the job at `position`, which is the next of this lane.

        Raises:
            LostJobError: If there will be none.
        """
        while True:
            try:
                if not self.connection.poll(self.timeout_seconds or None):
                    raise LostJobError(
                        position, self._item(), f"took longer than {self.timeout_seconds:g} seconds"
                    )
                result = self.connection.recv()
                self._send(position + JOBS_AHEAD * self.positions.step)
                break
            except (EOFError, OSError):  # the other end of the pipe is gone, maybe in the middle of a result
                self._replace(position)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]  # what `work` returned, through a pipe

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _start(self, position: int) -> None:
        context = multiprocessing.get_context("fork" if _FORK else "spawn")
        self.connection, theirs = context.Pipe()
        # What the process is at: position of the job, number of the item in it.
        self.progress = context.RawArray("q", [_NOTHING, _NOTHING])
        self.process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(theirs, self.work, self.jobs, self.progress, os.getpid()), daemon=True
        )
        with _signals_held_back(), warnings.catch_warnings():
            # Python warns of forks in a process with threads (PyTorch's, a progress bar's). The child calls
            # nothing that takes their locks: it decodes with one thread of its own.
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            self.process.start()
        theirs.close()
        for ahead in range(JOBS_AHEAD):
            self._send(position + ahead * self.positions.step)

    def _send(self, position: int) -> None:
        if position in self.positions:
            with contextlib.suppress(ConnectionError):  # dead: noticed when its result is waited for
                self.connection.send(position)

    def _item(self) -> int | None:
        item = int(self.progress[1])
        return None if item == _NOTHING else item

    def _replace(self, position: int) -> None:
        self.process.join(DYING_SECONDS)
        self.stop()
        at, item, exit_code = int(self.progress[0]), self._item(), self.process.exitcode
        culprit = position if at == _NOTHING else at
        if culprit in self.retried:
            raise LostJobError(culprit, item, _how_it_ended(exit_code or 0))
        self.retried.add(culprit)
        self._start(position)


def _serve(connection: Connection, work: Any, jobs: Any, progress: Any, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's handler, which would save a checkpoint
    signal.set_wakeup_fd(-1)
    _release_signals()
    _end_with(parent)
    release_freed_memory()  # that the parent keeps for its next step
    torch.set_num_threads(1)
    outbox: queue.Queue[object] = queue.Queue(maxsize=1)
    threading.Thread(target=_send_results, args=(connection, outbox), daemon=True).start()

    def report(item: int) -> None:
        progress[1] = item

    while True:
        try:
            position = connection.recv()
        except (EOFError, ConnectionError):
            return
        progress[0] = position
        outbox.put(_attempt(work, jobs[position], report))
        progress[0] = progress[1] = _NOTHING


def _attempt(work: Any, job: Any, report: Report) -> object:
    try:
        return work(job, report)
    except Q2LError as error:
        return error
    except Exception:  # noqa: BLE001 (whatever it is, it is raised in the parent)
        return RuntimeError(f"A loader process failed:\n{traceback.format_exc()}")


def _send_results(connection: Connection, outbox: queue.Queue[object]) -> None:
    try:
        while True:
            connection.send(outbox.get())
    except ConnectionError:
        pass  # the parent has gone
    finally:
        os._exit(1)  # a process that cannot send would be waited for in vain


def _how_it_ended(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed twice by signal 9 (out of memory?)"
    return (
        f"was ended twice by signal {-exit_code}" if exit_code < 0 else f"ended twice with code {exit_code}"
    )


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keeps signals from a new process until it has its own handlers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _release_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _end_with(parent: int) -> None:
    """Has the kernel end this process with its parent, even a killed one; elsewhere the pipe's end does."""
    if _FORK:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)


def _ignore(item: int) -> None:
    pass
