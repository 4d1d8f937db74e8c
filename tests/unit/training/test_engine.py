import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from query2label.config import LossConfig, OptimConfig
from query2label.losses import build_loss
from query2label.training.distributed import Ranks
from query2label.training.ema import WeightAverage
from query2label.training.engine import Learner, take_step
from query2label.training.optim import build_optimizer


def make_learner(network, *, accumulate=1, precision="fp32", clip_norm=0.0, ema=0.0, scaler=False):
    return Learner(
        network=network,
        wrapped=network,
        optimizer=build_optimizer(network.named_parameters(), OptimConfig(lr=1e-2)),
        scaler=torch.amp.GradScaler("cpu", enabled=scaler),
        average=WeightAverage(network, decay=ema) if ema else None,
        loss_function=build_loss(LossConfig()),
        precision=precision,
        clip_norm=clip_norm,
        accumulate=accumulate,
        ranks=Ranks(torch.device("cpu")),
    )


def make_batch(num_images=7):
    torch.manual_seed(1)
    targets = (torch.rand(num_images, 5) < 0.4).float()
    targets[0, 0] = -1.0
    return torch.randn(num_images, 6), targets


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 5))


@pytest.mark.parametrize("accumulate", [2, 3, 7, 20])
def test_take_step__accumulation_gives_the_gradient_of_the_whole_batch(accumulate, monkeypatch):
    gradients = []
    for parts in (1, accumulate):
        network = make_network()
        learner = make_learner(network, accumulate=parts)
        monkeypatch.setattr(
            learner.optimizer,
            "step",
            lambda network=network: gradients.append([p.grad.clone() for p in network.parameters()]),
        )
        take_step(learner, *make_batch(), step=0, num_images=7)
    for whole, accumulated in zip(*gradients, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [1, 2])
def test_take_step__every_process_cuts_its_share_into_equally_many_parts(share, monkeypatch):
    monkeypatch.setattr(Ranks, "sum", lambda self, values: values)
    seen = []
    network = make_network()
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    learner = dataclasses.replace(
        make_learner(network, accumulate=4), ranks=Ranks(torch.device("cpu"), world_size=2)
    )
    inputs, targets = make_batch(share)
    take_step(learner, inputs, targets, step=0, num_images=3)  # of which the other process has the rest
    assert seen == [share]


def test_take_step__is_adamw_on_the_mean_loss_with_clipping():
    network, (inputs, targets) = make_network(), make_batch()
    expected = copy.deepcopy(network)
    optimizer = build_optimizer(expected.named_parameters(), OptimConfig(lr=1e-2))
    loss = build_loss(LossConfig())(expected(inputs), targets)
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in expected.parameters()))
    for parameter in expected.parameters():
        parameter.grad *= 0.01 / norm
    optimizer.step()
    result = take_step(make_learner(network, clip_norm=0.01), inputs, targets, step=0, num_images=7)
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    assert result.gradient_norm == pytest.approx(norm, rel=1e-5)
    assert result.is_finite
    for mine, theirs in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        assert mine.grad is None


@pytest.mark.parametrize("where", ["label", "image"])
def test_take_step__a_non_finite_loss_leaves_weights_and_average_alone(where):
    network, (inputs, targets) = make_network(), make_batch()
    learner = make_learner(network, ema=0.9)
    before = copy.deepcopy(network.state_dict())
    average = {name: value.clone() for name, value in learner.average.tensors().items()}
    (targets if where == "label" else inputs)[2, 1] = math.nan
    result = take_step(learner, inputs, targets, step=0, num_images=7)
    assert not result.is_finite
    assert not result.is_loss_finite_here
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, average[name]) for name, value in learner.average.tensors().items())


def test_take_step__a_non_finite_gradient_leaves_the_weights_alone():
    network, (inputs, targets) = make_network(), make_batch()
    learner = make_learner(network)
    network[0].weight.register_hook(lambda gradient: gradient * math.inf)
    before = copy.deepcopy(network.state_dict())
    result = take_step(learner, inputs, targets, step=0, num_images=7)
    assert not result.is_finite
    assert result.is_loss_finite_here
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_take_step__with_a_scaler_an_overflowed_gradient_is_skipped_and_the_scale_lowered():
    network, (inputs, targets) = make_network(), make_batch()
    learner = make_learner(network, scaler=True, precision="bf16")
    hook = network[0].weight.register_hook(lambda gradient: gradient * math.inf)
    before = copy.deepcopy(network.state_dict())
    scale = learner.scaler.get_scale()
    assert take_step(learner, inputs, targets, step=0, num_images=7).is_finite
    assert learner.scaler.get_scale() == scale / 2
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    hook.remove()
    take_step(learner, inputs, targets, step=1, num_images=7)
    assert not torch.equal(network[0].weight, before["0.weight"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_take_step__in_half_precision_is_close_to_full_precision(precision):
    inputs, targets = make_batch()
    losses = [
        take_step(make_learner(make_network(), precision=p), inputs, targets, step=0, num_images=7).loss
        for p in ("fp32", precision)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    assert losses[1] != losses[0]


def test_take_step__moves_the_average_and_passes_signals_on():
    network, (inputs, targets) = make_network(), make_batch()
    learner = make_learner(network, ema=0.9)
    before = learner.average.tensors()["0.weight"].clone()
    result = take_step(learner, inputs, targets, step=0, num_images=7, stop_signal=15)
    assert result.stop_signal == 15
    expected = 0.1 * before + 0.9 * network[0].weight
    torch.testing.assert_close(learner.average.tensors()["0.weight"], expected)


def test_take_step__gradients_that_overflow_in_every_step_are_not_finite_in_the_end():
    network, (inputs, targets) = make_network(), make_batch()
    learner = make_learner(network, scaler=True, precision="bf16")
    network[0].weight.register_hook(lambda gradient: gradient * math.inf)
    finite = [take_step(learner, inputs, targets, step=step, num_images=7).is_finite for step in range(17)]
    assert finite == [True] * 16 + [False]
