import os
import platform
import subprocess
import sys

import pytest

from query2label import allocator

COUNT_FAULTS = """
import resource
import numpy as np
from query2label.allocator import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
np.ones(8_000_000)  # 64 MB: freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_keep_freed_memory__pages_are_cleared_once():
    def faults(*, keep):
        # Huge pages, where the system gives them, would hide what is counted.
        done = subprocess.run(
            [sys.executable, "-c", COUNT_FAULTS.format(keep=keep)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"},
        )
        return int(done.stdout)

    assert faults(keep=False) > 5 * 10_000  # 64 MB are 15,625 pages of 4 kB
    assert faults(keep=True) < 1_000


MEASURE_WORKER = """
import numpy as np
from query2label.allocator import keep_freed_memory
from query2label.data.workers import ordered_results

def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))

assert keep_freed_memory()
np.ones(100_000_000)  # 800 MB: freed at once, and kept
kept = resident()
[worker] = ordered_results(lambda job, report: resident(), [0], num_workers=1)
assert resident() > kept - 10_000  # still kept here
print(kept - worker)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_release_freed_memory__loader_processes_do_not_hold_on_to_what_their_parent_keeps():
    done = subprocess.run([sys.executable, "-c", MEASURE_WORKER], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 700_000  # kB


@pytest.mark.parametrize("release", [allocator.keep_freed_memory, allocator.release_freed_memory])
@pytest.mark.parametrize("error", [AttributeError("no mallopt"), OSError("no libc"), TypeError("Windows")])
def test_allocator__other_libraries_are_left_alone(monkeypatch, error, release):
    def fail(name):
        raise error

    monkeypatch.setattr(allocator.ctypes, "CDLL", fail)

    assert not release()
