"""Processes that die, hang, or whose parent does; each of these happens for real here."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from query2label.data.workers import LostJobError, Report, ordered_results
from query2label.errors import DataError


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def squares(job: int, report: Report) -> np.ndarray:
    report(job * 10)
    return np.full((300, 400), job * job)


def dies(tmp_path: Path, *, on: int, times: int, how: Callable[[], None]) -> Callable[[int, Report], int]:
    """Work that ends its process at one job, so many times."""

    def work(job: int, report: Report) -> int:
        report(100 + job)
        deaths = len(list(tmp_path.iterdir()))
        if job == on and deaths < times:
            (tmp_path / str(deaths)).touch()
            how()
        return -job

    return work


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 20])
def test_ordered_results__are_complete_and_in_order(num_workers: int) -> None:
    results = list(ordered_results(squares, list(range(11)), num_workers=num_workers))
    assert [int(result[0, 0]) for result in results] == [job * job for job in range(11)]
    assert all(result.shape == (300, 400) and result.flags.writeable for result in results)
    assert list(ordered_results(squares, [], num_workers=num_workers)) == []


def test_ordered_results__are_worked_on_by_other_processes_ahead_of_time() -> None:
    results = ordered_results(lambda _job, _report: (os.getpid(), time.monotonic()), range(8), num_workers=2)
    first = next(results)
    time.sleep(2)
    taken = time.monotonic()
    rest = list(results)
    assert len({pid for pid, _ in [first, *rest]} - {os.getpid()}) == 2
    assert sum(done < taken for _, done in rest) >= 3


def test_ordered_results__come_from_one_thread_each() -> None:
    import torch

    (threads,) = ordered_results(lambda _job, _report: torch.get_num_threads(), [0], num_workers=1)
    assert threads == 1


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("on", [0, 3, 9])
def test_ordered_results__survive_a_killed_process(tmp_path: Path, num_workers: int, on: int) -> None:
    work = dies(tmp_path, on=on, times=1, how=kill_myself)
    assert list(ordered_results(work, range(10), num_workers=num_workers)) == [-job for job in range(10)]
    assert len(list(tmp_path.iterdir())) == 1


def test_ordered_results__survive_one_death_per_job(tmp_path: Path) -> None:
    def work(job: int, _report: Report) -> int:
        marker = tmp_path / str(job)
        if not marker.exists():
            marker.touch()
            kill_myself()
        return job

    assert list(ordered_results(work, range(6), num_workers=2)) == list(range(6))


def test_ordered_results__survive_the_death_of_idle_processes() -> None:
    results = ordered_results(squares, range(12), num_workers=2)
    first = next(results)
    time.sleep(0.5)
    for process in multiprocessing.active_children():
        process.kill()
    assert [int(result[0, 0]) for result in [first, *results]] == [job * job for job in range(12)]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (kill_myself, r"was killed twice by signal 9 \(out of memory\?\)"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "was ended twice by signal 15"),
        (lambda: os._exit(3), "ended twice with code 3"),
    ],
)
def test_ordered_results__name_the_job_that_kills_again(
    tmp_path: Path, how: Callable[[], None], reason: str
) -> None:
    results = ordered_results(dies(tmp_path, on=4, times=9, how=how), range(8), num_workers=2)
    began = time.monotonic()
    with pytest.raises(LostJobError, match=f"job 4, item 104: {reason}") as caught:
        list(results)
    assert (caught.value.position, caught.value.item) == (4, 104)
    assert time.monotonic() - began < 10


def test_ordered_results__name_the_job_that_hangs() -> None:
    def work(job: int, report: Report) -> int:
        report(job)
        time.sleep(600 if job == 3 else 0)
        return job

    results = ordered_results(work, range(8), num_workers=2, timeout_seconds=0.5)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(LostJobError, match=r"job 3, item 3: took longer than 0\.5 seconds"):
        next(results)


def test_ordered_results__pass_errors_on() -> None:
    def work(job: int, _report: Report) -> int:
        if job == 2:
            raise DataError("photo 2 is wrong")
        if job == 5:
            raise KeyError("a bug")
        return job

    with pytest.raises(DataError, match="photo 2 is wrong"):
        list(ordered_results(work, range(8), num_workers=2))
    with pytest.raises(RuntimeError, match=r"A loader process failed:(.|\n)*KeyError: 'a bug'"):
        list(ordered_results(work, range(3, 8), num_workers=2))


def test_ordered_results__end_their_processes_when_closed() -> None:
    results = ordered_results(lambda _job, _report: time.sleep(600), range(4), num_workers=2)
    stopper = ordered_results(lambda job, _report: job, range(4), num_workers=2)
    assert next(stopper) == 0
    assert len(multiprocessing.active_children()) == 2
    stopper.close()
    assert multiprocessing.active_children() == []
    results.close()


SCRIPT = """
import multiprocessing, os, signal, sys, time
from query2label.data.workers import ordered_results

def work(job, report):
    time.sleep(0.02 if job < 4 else {slow})
    return job

{before}
results = ordered_results(work, range(8), num_workers=2)
taken = [next(results)]
print(*[process.pid for process in multiprocessing.active_children()], flush=True)
taken.extend(results)
print(taken)
"""


def started(*, before: str = "", slow: float = 600) -> tuple[subprocess.Popen[str], list[int]]:
    """A program in the middle of a loop, in a process group of its own, and its workers."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(before=before, slow=slow)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.3)
    return process, workers


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_ctrl_c__leaves_no_process_and_one_traceback() -> None:
    # A test run in the background of a shell hands down that SIGINT is ignored.
    process, workers = started(before="signal.signal(signal.SIGINT, signal.default_int_handler)")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert_gone(workers)


def test_killed_parent__leaves_no_process() -> None:
    process, workers = started()
    process.kill()
    process.communicate(timeout=20)
    assert_gone(workers)


def test_sigterm_to_all__runs_the_parents_handler_in_the_parent_alone(tmp_path: Path) -> None:
    handler = f"""
def handler(number, frame):
    open({str(tmp_path)!r} + "/" + str(os.getpid()), "w").close()

signal.signal(signal.SIGTERM, handler)
"""
    process, workers = started(before=handler, slow=0.6)
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert errors == ""
    assert output == "[0, 1, 2, 3, 4, 5, 6, 7]\n"
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [str(process.pid)]
    assert_gone(workers)


def test_ordered_results__do_not_wait_for_a_result_that_cannot_be_sent() -> None:
    results = ordered_results(lambda _job, _report: threading.Lock(), [0], num_workers=1)
    with pytest.raises(LostJobError, match="job 0, item None: ended twice with code 1"):
        list(results)
