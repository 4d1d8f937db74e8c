import shutil

import pytest
from typer.testing import CliRunner

from query2label.cli.app import app


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "x"], "--out is missing: name a new folder for the run (or --resume one)"),
        (
            ["--resume", "x", "--data", "y"],
            "--resume RUN goes on with the run's own data, folder, recipe and start",
        ),
        (["--resume", "x", "--recipe", "laptop"], "--resume RUN goes on with"),
        (["--resume", "nowhere"], "nowhere holds no run to resume: there is no config.toml in it"),
        (["--out", "run"], "No data are named: give --data"),
        (["--data", "nowhere", "--out", "run"], "nowhere does not exist"),
        (["--data", "nowhere", "--out", "run", "--recipe", "desktop"], "There is no recipe 'desktop'"),
        (["--data", ".", "--out", "run", "--set", "optim.rate=1"], "Unknown setting optim.rate"),
        (["--data", ".", "--out", "run", "--device", "tpu"], "Unknown device 'tpu'"),
    ],
)
def test_train__says_in_one_sentence_what_is_wrong_and_writes_nothing(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_train__trains_and_says_what_was_left_out_and_where_the_model_is(shapes, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    (data / "labels.csv").write_text((shapes / "labels.csv").read_text() + "61.png,,train\n")
    shutil.copy(data / "00.png", data / "61.png")
    settings = (
        "model.backbone=test_efficientnet", "model.weights=none", "model.hidden_dim=16",
        "model.feedforward_dim=32", "data.image_size=32", "data.num_workers=0", "train.epochs=1",
        "data.labelled_only=true",
    )  # fmt: skip
    overrides = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "--data", str(data), "--out", str(out), *overrides])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"40 training and 21 validation images with 3 labels, from {data}"
    assert lines[2] == "Images without a label, left out: 1 of 62 (data.labelled_only)."
    assert lines[3].startswith("Warning: 2 of 21 validation images look like a training image (the same ")
    assert lines[4].startswith("epoch 1/1: loss ")
    assert lines[-1] == f"The model is in {out / 'best'}: q2l predict PHOTO --model {out / 'best'}"
