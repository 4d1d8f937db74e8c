"""Nothing that is not finite is learned, averaged or saved."""

import json
import math

import pytest
import torch

from query2label.bundle import read_weights
from query2label.errors import TrainingError
from query2label.training import loop, scoring
from query2label.training.checkpoint import load_checkpoint
from query2label.training.run import train

SETTINGS = (
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.hidden_dim=16",
    "model.feedforward_dim=32",
    "data.image_size=32",
    "data.num_workers=0",
    "train.batch_size=10",
    "train.epochs=3",
)


def run_spoilt(data, out, *more):
    return train(data=data, out=out, overrides=(*SETTINGS, *more), device="cpu", quiet=True)


def spoil(monkeypatch, step, change):
    """Changes inputs and targets of one step before it is taken."""
    take_step = loop.take_step

    def spoilt(learner, inputs, targets, **kwargs):
        if kwargs["step"] == step:
            inputs, targets = change(inputs.clone(), targets.clone())
        return take_step(learner, inputs, targets, **kwargs)

    monkeypatch.setattr(loop, "take_step", spoilt)


def nan_image(inputs, targets):
    inputs[3, 1, 5, 5] = math.nan
    return inputs, targets


def infinite_image(inputs, targets):
    inputs[0] = math.inf
    return inputs, targets


def nan_label(inputs, targets):
    targets[2, 1] = math.nan
    return inputs, targets


@pytest.mark.parametrize("change", [nan_image, infinite_image, nan_label])
def test_train__stops_at_a_loss_that_is_not_finite(shapes, tmp_path, monkeypatch, change):
    run_dir = tmp_path / "run"
    spoil(monkeypatch, 5, change)
    with pytest.raises(TrainingError) as caught:
        run_spoilt(shapes, run_dir)
    message = str(caught.value)
    assert message.startswith(f"Step 6 (epoch 2): the loss is not finite on the images {shapes}/")
    assert " and 6 more; the last good checkpoint is" in message
    assert f"{run_dir / 'last'} (step 4). Look at these images" in message
    checkpoint = load_checkpoint(run_dir / "last")
    assert checkpoint.step == 4
    for tensors in (checkpoint.tensors, read_weights(run_dir / "best")):
        assert any("running_mean" in name for name in tensors)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        assert all(value is None or math.isfinite(value) for value in json.loads(line).values())
    assert f"Ended: {message}" in (run_dir / "log.txt").read_text()


def test_train__stops_in_the_first_step_with_nothing_saved(shapes, tmp_path, monkeypatch):
    spoil(monkeypatch, 0, nan_image)
    with pytest.raises(TrainingError, match="no checkpoint was saved before"):
        run_spoilt(shapes, tmp_path / "run", "train.checkpoint_minutes=0")
    assert not (tmp_path / "run" / "last").exists()
    assert not (tmp_path / "run" / "best").exists()


def test_train__stops_at_a_learning_rate_that_explodes(shapes, tmp_path):
    with pytest.raises(TrainingError, match="not finite"):
        run_spoilt(shapes, tmp_path / "run", "optim.lr=1e30", "optim.schedule=cosine", "train.ema_decay=0")
    last = tmp_path / "run" / "last"
    checkpoint = load_checkpoint(last)
    if checkpoint is not None:
        assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.tensors.values())


def test_train__stops_at_validation_logits_that_are_not_finite(shapes, tmp_path, monkeypatch):
    class Spoilt(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 3), math.nan)

    score_batches = scoring.score_batches
    monkeypatch.setattr(
        loop,
        "score_batches",
        lambda networks, *args, **kwargs: score_batches(dict.fromkeys(networks, Spoilt()), *args, **kwargs),
    )
    with pytest.raises(TrainingError, match="logits on the validation images are not finite"):
        run_spoilt(shapes, tmp_path / "run")


def test_train__saves_nothing_where_norm_statistics_are_spoilt(shapes, tmp_path, monkeypatch):
    take_step = loop.take_step

    def spoilt(learner, inputs, targets, **kwargs):
        result = take_step(learner, inputs, targets, **kwargs)
        if kwargs["step"] == 5:
            statistics = next(b for name, b in learner.network.named_buffers() if "running_var" in name)
            statistics[0] = math.inf
        return result

    monkeypatch.setattr(loop, "take_step", spoilt)
    with pytest.raises(TrainingError, match="holds NaN or infinity: no checkpoint was written"):
        run_spoilt(shapes, tmp_path / "run", "train.checkpoint_minutes=0")
    assert load_checkpoint(tmp_path / "run" / "last").step == 5
