"""Two processes on one machine are one process with the same global batch."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from query2label.bundle import read_bundle, read_weights
from query2label.errors import ConfigError
from query2label.training.checkpoint import load_checkpoint
from query2label.training.distributed import Ranks, choose_device
from query2label.training.run import train

# No dropout and no batch statistics: nothing that may differ between one process and two.
SETTINGS = (
    "model.backbone=test_vit",
    "model.weights=none",
    "model.hidden_dim=16",
    "model.feedforward_dim=32",
    "model.dropout=0.0",
    "data.image_size=160",
    "data.num_workers=0",
    "data.augment.randaugment_num_ops=0",
    "train.batch_size=7",
    "train.epochs=2",
    "optim.lr=1e-3",
)


def torchrun(*arguments, processes=2):
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout=240):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def train_command(*arguments):
    return ("-m", "query2label", "train", "--device", "cpu", *arguments)


def settings(*more):
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


def records(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    train(data=shapes, out=out, overrides=SETTINGS, device="cpu", quiet=True)
    return out


@pytest.fixture(scope="module")
def two(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "two"
    process = torchrun(
        *train_command("--data", shapes, "--out", out, *settings("train.checkpoint_minutes=0"))
    )
    code, output = finish(process)
    assert code == 0, output
    return out


def test_two_processes__give_the_loss_curve_and_weights_of_one(one, two):
    for single, double in zip(records(one), records(two), strict=True):
        assert double["train_loss"] == pytest.approx(single["train_loss"], rel=1e-5)
        assert double["val_loss"] == pytest.approx(single["val_loss"], rel=1e-4)
        assert double["step"] == single["step"]
    first, second = read_weights(one / "best"), read_weights(two / "best")
    for name, value in first.items():
        # A softmax does not notice a bias of all its keys: that gradient is rounding, scaled up by AdamW.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)


def test_two_processes__start_from_the_photos_of_both(shapes, tmp_path):
    direct = (
        *("model.attention=direct", "model.hidden_dim=64", "model.num_encoder_layers=0"),
        *("model.num_decoder_layers=1", "model.start_from_photos=true", "train.epochs=1"),
    )
    train(data=shapes, out=tmp_path / "one", overrides=(*SETTINGS, *direct), device="cpu", quiet=True)
    command = train_command("--data", shapes, "--out", tmp_path / "two", *settings(*direct))
    code, output = finish(torchrun(*command))
    assert code == 0, output
    assert output.count("3 of 3 labels start near a linear probe of the photos.") == 1
    first, second = (read_weights(tmp_path / name / "best") for name in ("one", "two"))
    rows = first["head.output_weight"]
    assert rows.norm(dim=1).min() > 0.1  # each has 0.2 x n / (5 + n) of the probe, and no name
    torch.testing.assert_close(second["head.output_weight"], rows, rtol=1e-3, atol=1e-4)


def test_two_processes__evaluate_every_image_once_where_the_set_does_not_divide(one, two):
    # 21 validation images: 11 and 10.
    reports = [json.loads((run / "evaluation" / "report.json").read_text()) for run in (one, two)]
    assert [report["num_images"] for report in reports] == [21, 21]
    assert reports[1]["map"] == pytest.approx(reports[0]["map"], abs=1e-6)
    for single, double in zip(records(one), records(two), strict=True):
        assert double["map"] == pytest.approx(single["map"], abs=1e-6)
    assert np.allclose(read_bundle(two / "best").thresholds, read_bundle(one / "best").thresholds, atol=1e-3)


def test_two_processes__write_one_log(two):
    assert (two / "log.txt").read_text().count("epoch 2/2:") == 1
    assert json.loads((two / "environment.json").read_text())["world_size"] == 2


@pytest.mark.slow
def test_two_processes__saved_by_sigterm_go_on_bit_for_bit(two, shapes, tmp_path):
    out = tmp_path / "run"
    process = torchrun(
        *train_command("--data", shapes, "--out", out, *settings("train.checkpoint_minutes=0"))
    )
    wait_for(process, out / "last" / "step-00000003")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert time.monotonic() - began < 30
    assert code != 0
    assert "go on with `q2l train --resume" in output
    code, output = finish(torchrun(*train_command("--resume", out)))
    assert code == 0, output
    assert_same(out, two)


@pytest.mark.slow
def test_two_processes__killed_go_on_bit_for_bit(two, shapes, tmp_path, kill_all):
    out = tmp_path / "run"
    process = torchrun(
        *train_command("--data", shapes, "--out", out, *settings("train.checkpoint_minutes=0"))
    )
    wait_for(process, out / "last" / "step-00000004")
    kill_all(process)
    code, output = finish(torchrun(*train_command("--resume", out)))
    assert code == 0, output
    assert_same(out, two)


SPOILT_STEP = """
import os, sys
from query2label.training import loop
from query2label.cli.app import main

take_step, calls = loop.take_step, [0]

def spoilt(learner, inputs, targets, **kwargs):
    calls[0] += 1
    if calls[0] == 3 and os.environ["RANK"] == "1":
        inputs = inputs * float("nan")
    return take_step(learner, inputs, targets, **kwargs)

loop.take_step = spoilt
sys.argv = ["q2l", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_two_processes__agree_that_a_loss_in_one_of_them_is_not_finite(shapes, tmp_path):
    out = tmp_path / "run"
    script = tmp_path / "spoilt.py"
    script.write_text(SPOILT_STEP)
    command = train_command("--data", shapes, "--out", out, *settings("train.checkpoint_minutes=0"))
    code, output = finish(torchrun(script, *command[2:]))
    assert code != 0
    message = f"Error: Step 3 (epoch 1): the loss is not finite on the images {shapes}"
    assert output.count(message) == 2
    assert f"the last good checkpoint is {out / 'last'} (step 2)" in output
    checkpoint = load_checkpoint(out / "last")
    assert checkpoint.step == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.tensors.values())


def wait_for(process, path):
    while process.poll() is None and not path.exists():
        time.sleep(0.01)


def assert_same(one, other):
    first, second = (load_checkpoint(run / "last").tensors for run in (one, other))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    best, other_best = read_weights(one / "best"), read_weights(other / "best")
    assert all(torch.equal(best[name], other_best[name]) for name in best)
    losses = [[record["train_loss"] for record in records(run)] for run in (one, other)]
    assert losses[0] == losses[1]


def test_ranks__alone_do_everything_without_peers():
    ranks = Ranks(torch.device("cpu"))
    rows = torch.arange(6.0).view(3, 2)
    assert ranks.is_first
    assert ranks.gather_rows(rows) is rows
    assert ranks.gather(3) == [3]
    assert ranks.from_first("x") == "x"
    assert ranks.first_does(lambda: 7) == 7
    ranks.share_tensors({"a": rows})
    ranks.wait()


def test_choose_device__refuses_what_is_not_there():
    with pytest.raises(ConfigError, match="Unknown device 'gpu': it is auto, cpu or cuda"):
        choose_device("gpu")
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="There is no CUDA device here"):
            choose_device("cuda")
        assert choose_device("auto") == torch.device("cpu")


def test_choose_device__gives_each_process_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", local_rank=1) == torch.device("cuda", 1)
    with pytest.raises(
        ConfigError, match=r"There are 2 CUDA devices here, too few for process 3: start at most"
    ):
        choose_device("cuda", local_rank=2)


def test_train__refuses_batches_smaller_than_the_number_of_processes(shapes, tmp_path):
    command = train_command("--data", shapes, "--out", tmp_path / "run", *settings("train.batch_size=1"))
    code, output = finish(torchrun(*command))
    assert code != 0
    assert "Batches of 1 images cannot be shared by 2 processes" in output
    assert not (tmp_path / "run").exists()
