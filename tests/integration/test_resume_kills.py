"""SIGKILLs at random moments, also while a checkpoint is written: the run ends as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time

import pytest
import torch

from query2label.bundle import read_bundle, read_weights
from query2label.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# BatchNorm, dropout, augmentation, mixup, accumulation and an average; a checkpoint after every step.
SETTINGS = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.hidden_dim=16",
    "model.feedforward_dim=32",
    "data.image_size=32",
    "data.num_workers=0",
    "data.augment.crop_min_area=0.5",
    "data.augment.mixup_alpha=0.3",
    "train.batch_size=10",
    "train.accumulate=2",
    "train.checkpoint_minutes=0",
    "optim.lr=3e-3",
)
TIMES = {"images_per_second", "seconds", "validation_seconds"}
LONGEST_WAIT_SECONDS = 0.6


def start(*arguments, ranks):
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [*launcher, "-m", "query2label", "train", "--device", "cpu", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def beginning(data, out, *, epochs):
    overrides = [part for setting in SETTINGS for part in ("--set", setting)]
    return ("--data", data, "--out", out, *overrides, "--set", f"train.epochs={epochs}")


def newest(run_dir):
    pointer = run_dir / "last" / "LATEST"
    return pointer.read_text() if pointer.exists() else ""


def wait_for_a_random_moment(process, run_dir, before, draw):
    """Waits until the process has saved once, and then some time."""
    while process.poll() is None and newest(run_dir) == before:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, LONGEST_WAIT_SECONDS))
    if process.poll() is not None:
        pytest.fail(f"it ended by itself: {process.communicate()[1]}")


def run_to_the_end(*arguments, ranks):
    process = start(*arguments, ranks=ranks)
    _, error = process.communicate()
    assert process.returncode == 0, error


def curve(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


@pytest.mark.parametrize(("ranks", "num_kills", "epochs"), [(1, 20, 30), (2, 6, 12)])
def test_resume__after_sigkills_is_bit_equal_to_the_run_never_killed(
    shapes, tmp_path, kill_all, ranks, num_kills, epochs
):
    draw = random.Random(ranks)
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    run_to_the_end(*beginning(shapes, whole, epochs=epochs), ranks=ranks)
    arguments = beginning(shapes, run_dir, epochs=epochs)
    for kill in range(num_kills):
        before = newest(run_dir)
        process = start(*arguments, ranks=ranks)
        wait_for_a_random_moment(process, run_dir, before, draw)
        kill_all(process)
        workers = 2 if kill % 2 == 0 else 0
        arguments = ("--resume", run_dir, "--set", f"data.num_workers={workers}")
    run_to_the_end(*arguments, ranks=ranks)

    first, second = (load_checkpoint(run / "last").tensors for run in (whole, run_dir))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    best, other_best = (read_weights(run / "best") for run in (whole, run_dir))
    assert [name for name in best if not torch.equal(best[name], other_best[name])] == []
    assert read_bundle(whole / "best").thresholds == read_bundle(run_dir / "best").thresholds
    assert curve(whole) == curve(run_dir)
    assert [record["epoch"] for record in curve(run_dir)] == list(range(1, epochs + 1))
    leftovers = [path for path in run_dir.rglob("*") if path.name.startswith(".tmp-")]
    assert leftovers == []
