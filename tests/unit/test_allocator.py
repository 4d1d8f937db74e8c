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


@pytest.mark.parametrize("error", [AttributeError("no mallopt"), OSError("no libc"), TypeError("Windows")])
def test_keep_freed_memory__other_libraries_are_left_alone(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(allocator.ctypes, "CDLL", fail)

    assert not allocator.keep_freed_memory()
