"""A process that saves in a loop and is killed a hundred times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from query2label.training.checkpoint import POINTER, load_checkpoint, save_checkpoint

KILLS = 100

# Torch is imported once; each victim is a process of its own that is killed at a random moment.
DRIVER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from query2label.training.checkpoint import load_checkpoint, save_checkpoint

torch.set_num_threads(1)
last_dir, kills = Path(sys.argv[1]), int(sys.argv[2])


def save(step):
    tensors = {"a": torch.full((300_000,), float(step)), "b": torch.tensor(step)}
    save_checkpoint(last_dir, step=step, tensors=tensors, state={"step": step})


def victim(step, report):
    while True:
        save(step)
        os.write(report, step.to_bytes(8, "little"))
        step += 1


chosen = random.Random(0)
loaded = 1
started = time.monotonic()
save(loaded)
seconds = time.monotonic() - started
for kill in range(kills):
    receive, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        victim(loaded + 1, report)
    os.close(report)
    time.sleep(chosen.uniform(0.0, 3 * seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(receive, "rb") as file:
        reports = file.read()
    finished = int.from_bytes(reports[-8:], "little") if reports else loaded
    checkpoint = load_checkpoint(last_dir)
    loaded = checkpoint.step
    assert finished <= loaded <= finished + 1, (kill, finished, loaded)
    assert checkpoint.state == {"step": loaded}
    assert bool((checkpoint.tensors["a"] == loaded).all()) and checkpoint.tensors["b"].item() == loaded
print(loaded)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_save_checkpoint__a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    last_dir = tmp_path / "last"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER, str(last_dir), str(KILLS)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    step = int(done.stdout)
    assert step >= KILLS // 4  # the kills did not all come before the first save
    save_checkpoint(last_dir, step=step + 1, tensors={"a": torch.ones(1)}, state={})
    assert names_in(last_dir) == [POINTER, f"step-{step:08d}", f"step-{step + 1:08d}"]
    checkpoint = load_checkpoint(last_dir)
    assert checkpoint is not None
    assert checkpoint.step == step + 1
