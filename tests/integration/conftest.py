"""What tests of whole processes share."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

TINY_MODEL = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.hidden_dim=16",
    "model.feedforward_dim=32",
    "data.image_size=32",
)
TINY_RUN = (*TINY_MODEL, "data.num_workers=0", "train.batch_size=8", "train.epochs=2")
"""Settings with which training takes a second."""


def _descendants(pid):
    children = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


@pytest.fixture
def kill_all():
    """Kills a process and all that it started, which torchrun puts into groups of their own."""

    def kill(process):
        for pid in _descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()

    return kill
