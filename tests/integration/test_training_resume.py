"""A run that is stopped, at whatever moment, and resumed is the run that was never stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from query2label.bundle import read_bundle, read_weights
from query2label.data.look_alikes import read_looks
from query2label.data.table import read as read_table
from query2label.errors import ConfigError, DataError, TrainingError
from query2label.models.backbone import build_backbone
from query2label.training import copies, loop, prepare, scoring
from query2label.training.checkpoint import load_checkpoint
from query2label.training.run import resume, train
from query2label.training.run_folder import RunFolder
from query2label.training.signals import RunInterruptedError

# Everything with randomness or state is on: dropout, BatchNorm, augmentation, mixup, accumulation, average.
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
    "train.epochs=2",
    "optim.lr=3e-3",
    "optim.cycle_beta1=true",
)
FROZEN = (
    "model.freeze=all",
    "train.cache_features=true",
    "train.cache_views=2",
    "data.augment.mixup_alpha=0",
)
TIMES = {"images_per_second", "seconds", "validation_seconds"}


def run_whole(data, out, *more):
    return train(data=data, out=out, overrides=(*SETTINGS, *more), device="cpu", quiet=True)


def last_tensors(run_dir):
    return load_checkpoint(run_dir / "last").tensors


def curve(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def assert_same_run(one, other):
    first, second = last_tensors(one), last_tensors(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    best, other_best = read_weights(one / "best"), read_weights(other / "best")
    assert [name for name in best if not torch.equal(best[name], other_best[name])] == []
    assert curve(one) == curve(other)
    # The settings of the run may differ, by the number of workers for example.
    bundle, other_bundle = (read_bundle(run / "best").model_copy(update={"run": {}}) for run in (one, other))
    assert bundle == other_bundle


def stop_after(monkeypatch, num_steps, number=signal.SIGTERM):
    """Sends this process a signal during its next `num_steps`-th step."""
    left = [num_steps]
    take_step = loop.take_step

    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
            kwargs["stop_signal"] = number
        return take_step(*args, **kwargs)

    monkeypatch.setattr(loop, "take_step", counted)


@pytest.fixture(scope="module")
def uninterrupted(shapes, tmp_path_factory):
    return run_whole(shapes, tmp_path_factory.mktemp("runs") / "whole").run_dir


@pytest.mark.parametrize("step", [1, 3, 4, 5, 8])
def test_resume__is_the_run_never_stopped(uninterrupted, shapes, tmp_path, monkeypatch, step):
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, step)
    with pytest.raises(RunInterruptedError, match=f"after step {step} of 8, and saved: go on with"):
        run_whole(shapes, run_dir, "data.num_workers=2" if step % 2 else "data.num_workers=0")
    monkeypatch.undo()
    assert load_checkpoint(run_dir / "last").step == step
    resume(run_dir, overrides=["data.num_workers=0" if step % 2 else "data.num_workers=2"], quiet=True)
    assert_same_run(run_dir, uninterrupted)
    assert f"Resumed after step {step}, from" in (run_dir / "log.txt").read_text()


def test_resume__after_every_single_step(uninterrupted, shapes, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, 1)
    with pytest.raises(RunInterruptedError):
        run_whole(shapes, run_dir)
    for _ in range(6):
        monkeypatch.undo()
        stop_after(monkeypatch, 1)
        with pytest.raises(RunInterruptedError):
            resume(run_dir, quiet=True)
    monkeypatch.undo()
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)


@pytest.mark.parametrize("pass_number", [1, 2, 3])
def test_resume__after_a_signal_during_validation(uninterrupted, shapes, tmp_path, monkeypatch, pass_number):
    run_dir = tmp_path / "run"
    passes = [0]
    evaluating = scoring.evaluating

    def interrupted(networks):
        passes[0] += 1
        if passes[0] == pass_number:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluating(networks)

    monkeypatch.setattr(scoring, "evaluating", interrupted)
    with pytest.raises(RunInterruptedError, match="q2l train --resume") as caught:
        run_whole(shapes, run_dir)
    assert caught.value.exit_code == 130
    monkeypatch.undo()
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)


def test_resume__after_a_signal_while_copies_are_looked_for(uninterrupted, shapes, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from read_looks(*args, **kwargs)

    monkeypatch.setattr(copies, "read_looks", interrupted)
    with pytest.raises(RunInterruptedError, match="while validation images were compared with"):
        run_whole(shapes, run_dir)
    monkeypatch.undo()
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)
    warnings = [RunFolder(path).evaluation / "report.json" for path in (run_dir, uninterrupted)]
    first, second = (json.loads(path.read_text())["warnings"] for path in warnings)
    assert first == second != []


def test_resume__of_a_finished_run_changes_nothing(shapes, tmp_path, uninterrupted):
    before = last_tensors(uninterrupted)
    result = resume(uninterrupted, quiet=True)
    assert len(result.epochs) == 2
    assert all(torch.equal(before[name], value) for name, value in last_tensors(uninterrupted).items())


def test_resume__with_cached_features_also_while_they_are_computed(shapes, tmp_path, monkeypatch):
    # Weights from a file, so that a backbone that was not loaded has others.
    torch.manual_seed(7)
    weights = tmp_path / "weights.safetensors"
    save_file(build_backbone("test_efficientnet", weights="none").model.state_dict(), weights)
    frozen = (*FROZEN, f"model.weights={weights}")
    whole = run_whole(shapes, tmp_path / "whole", *frozen, f"train.cache_dir={tmp_path / 'cache'}").run_dir
    other_cache = f"train.cache_dir={tmp_path / 'other'}"
    run_dir = tmp_path / "run"
    build = prepare.build_feature_cache

    def interrupted(*args, on_progress, **kwargs):
        def advance(done, total):
            if done >= 40:
                os.kill(os.getpid(), signal.SIGTERM)
            on_progress(done, total)

        return build(*args, on_progress=advance, **kwargs)

    monkeypatch.setattr(prepare, "build_feature_cache", interrupted)
    with pytest.raises(RunInterruptedError, match="are done and kept"):
        run_whole(shapes, run_dir, *frozen, other_cache)
    monkeypatch.undo()
    stop_after(monkeypatch, 6)
    with pytest.raises(RunInterruptedError):
        resume(run_dir, quiet=True)
    monkeypatch.undo()
    weights.unlink()  # the checkpoint has them
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, whole)


def test_resume__from_the_checkpoint_before_where_the_last_is_damaged(
    uninterrupted, shapes, tmp_path, monkeypatch
):
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, 7)
    with pytest.raises(RunInterruptedError):
        run_whole(shapes, run_dir)
    monkeypatch.undo()
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 8}\n{"half')
    damaged = run_dir / "last" / "step-00000007" / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)
    log = (run_dir / "log.txt").read_text()
    assert "Part of the last checkpoint is damaged (step-00000007: tensors.safetensors" in log
    assert "Resumed after step 4" in log


def test_resume__of_a_run_that_never_saved_begins_anew(uninterrupted, shapes, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"

    def killed(*args, **kwargs):
        raise SystemExit

    monkeypatch.setattr(loop, "take_step", killed)
    with pytest.raises(SystemExit):
        run_whole(shapes, run_dir)
    monkeypatch.undo()
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)


def test_resume__refuses_other_data_settings_and_folders(shapes, tmp_path, monkeypatch):
    data = shutil.copytree(shapes, tmp_path / "data")
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, 2)
    with pytest.raises(RunInterruptedError):
        run_whole(data, run_dir)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"optim\.lr cannot be changed in a run that goes on"):
        resume(run_dir, overrides=["optim.lr=1"], quiet=True)
    with pytest.raises(ConfigError, match="holds no run to resume"):
        resume(tmp_path, quiet=True)
    assert len(read_table(data).samples) == 61
    (data / "labels.csv").write_text((shapes / "labels.csv").read_text().replace("circle|square", "circle"))
    with pytest.raises(DataError, match="The data are not those that this run began with"):
        resume(run_dir, quiet=True)
    resume(run_dir, overrides=[f"data.path={shapes}"], quiet=True)


def test_resume__refuses_a_checkpoint_of_another_model(shapes, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, 2)
    with pytest.raises(RunInterruptedError):
        run_whole(shapes, run_dir)
    monkeypatch.undo()
    config = (run_dir / "config.toml").read_text()
    (run_dir / "config.toml").write_text(config.replace("hidden_dim = 16", "hidden_dim = 32"))
    with pytest.raises(TrainingError, match="The checkpoint does not fit the model"):
        resume(run_dir, quiet=True)


def command(*arguments):
    return [sys.executable, "-m", "query2label", "train", *map(str, arguments), "--device", "cpu"]


def settings(*more):
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals__save_and_end_the_command(uninterrupted, shapes, tmp_path, number, code):
    run_dir = tmp_path / "run"
    arguments = command("--data", shapes, "--out", run_dir, *settings("train.checkpoint_minutes=0"))
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (run_dir / "last" / "LATEST").exists():
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == code
    assert re.fullmatch(rf"Stopped by a signal after .* `q2l train --resume {run_dir}`\.\n", error)
    subprocess.run(command("--resume", run_dir), check=True, capture_output=True)
    assert_same_run(run_dir, uninterrupted)


def test_sigkill__loses_only_what_was_not_saved(uninterrupted, shapes, tmp_path):
    run_dir = tmp_path / "run"
    arguments = command("--data", shapes, "--out", run_dir, *settings("train.checkpoint_minutes=0"))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (run_dir / "last" / "step-00000003").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    saved = load_checkpoint(run_dir / "last")
    assert saved.step >= 2
    assert load_file(saved.path / "tensors.safetensors").keys() == saved.tensors.keys()
    resume(run_dir, quiet=True)
    assert_same_run(run_dir, uninterrupted)


def test_resume__refuses_a_run_that_another_process_is_at(shapes, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    stop_after(monkeypatch, 2)
    with pytest.raises(RunInterruptedError):
        run_whole(shapes, run_dir)
    monkeypatch.undo()
    with (
        RunFolder(run_dir).held(),
        pytest.raises(TrainingError, match=r"Another process is training in .*: wait until it ends"),
    ):
        resume(run_dir, quiet=True)
    resume(run_dir, quiet=True)
