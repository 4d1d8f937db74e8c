import copy

import pytest
import torch
from torch import nn

from query2label.config import OptimConfig
from query2label.errors import TrainingError
from query2label.training.optim import (
    build_optimizer,
    decays,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    set_beta1,
    set_rate,
)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(4), "linear": nn.Linear(4, 4)})
        self.query_embed = nn.Parameter(torch.randn(2, 4))

    def forward(self, images):
        features = self.backbone(images).mean((2, 3))
        return self.head["linear"](self.head["norm"](features)) @ self.query_embed.T


CONFIG = OptimConfig(lr=1e-3, backbone_lr_scale=0.25, query_lr_scale=4, weight_decay=0.05)


def test_parameter_groups__norms_biases_and_queries_do_not_decay_and_each_part_has_its_rate():
    found = {
        name: (group["peak_lr"], group["weight_decay"])
        for group in parameter_groups(Model().named_parameters(), CONFIG)
        for name in group["names"]
    }
    assert found == {
        "backbone.0.weight": (0.25e-3, 0.05),
        "backbone.0.bias": (0.25e-3, 0.0),
        "backbone.1.weight": (0.25e-3, 0.0),
        "backbone.1.bias": (0.25e-3, 0.0),
        "head.norm.weight": (1e-3, 0.0),
        "head.norm.bias": (1e-3, 0.0),
        "head.linear.weight": (1e-3, 0.05),
        "head.linear.bias": (1e-3, 0.0),
        "query_embed": (4e-3, 0.0),
    }


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("head.layers.0.in_proj_weight", (12, 4), True),
        ("head.output.weight", (5, 4), True),
        ("head.output.bias", (5,), False),
        ("head.output_bias", (5, 1), False),
        ("backbone.body.pos_embed", (1, 7, 4), False),
        ("backbone.body.cls_token", (1, 1, 4), False),
        ("backbone.body.relative_position_bias_table", (49, 2), False),
        ("head.queries", (5, 4), False),
        ("backbone.body.patch_embed.proj.weight", (4, 3, 2, 2), True),
    ],
)
def test_decays__follows_the_parameters_own_name_and_shape(name, shape, expected):
    assert decays(name, torch.zeros(shape)) is expected


def test_parameter_groups__leaves_frozen_parameters_out():
    model = Model()
    model.backbone.requires_grad_(False)
    names = [name for group in parameter_groups(model.named_parameters(), CONFIG) for name in group["names"]]
    assert not any(name.startswith("backbone.") for name in names)


def test_parameter_groups__refuses_a_model_in_which_nothing_learns():
    with pytest.raises(TrainingError, match="No parameter of the model learns"):
        parameter_groups(Model().requires_grad_(False).named_parameters(), CONFIG)


def test_set_rate__scales_each_groups_peak():
    optimizer = build_optimizer(Model().named_parameters(), CONFIG)
    set_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5e-3, 0.125e-3, 2e-3}


def test_set_beta1__changes_no_other_setting():
    optimizer = build_optimizer(Model().named_parameters(), CONFIG)
    set_beta1(optimizer, 0.85)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.85, CONFIG.beta2)}


def test_restore_optimizer__goes_on_bit_for_bit():
    torch.manual_seed(0)
    model = Model().eval()
    optimizer = build_optimizer(model.named_parameters(), CONFIG)
    images = torch.randn(4, 3, 8, 8)

    def step(model, optimizer):
        model(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(model, optimizer)
    step(model, optimizer)
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
    other = copy.deepcopy(model)
    step(model, optimizer)
    restored = build_optimizer(other.named_parameters(), CONFIG)
    restore_optimizer(restored, tensors)
    step(other, restored)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert "head.linear.weight/exp_avg_sq" in tensors


def test_optimizer_tensors__is_empty_before_the_first_step():
    assert optimizer_tensors(build_optimizer(Model().named_parameters(), CONFIG)) == {}


def test_restore_optimizer__lays_moments_out_as_their_parameter():
    # The fused step runs over memory: a moment in another order would meet the wrong weights.
    def make():
        torch.manual_seed(0)
        network = torch.nn.Conv2d(4, 6, kernel_size=3).to(memory_format=torch.channels_last)
        return network, build_optimizer(network.named_parameters(), OptimConfig(lr=0.1))

    def learn(network, optimizer, seed):
        images = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        network(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    network, optimizer = make()
    learn(network, optimizer, 1)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    saved = {name: value.clone().contiguous() for name, value in optimizer_tensors(optimizer).items()}
    learn(network, optimizer, 2)
    other, resumed = make()
    other.load_state_dict(weights)
    restore_optimizer(resumed, saved)
    learn(other, resumed, 2)
    assert torch.equal(other.weight, network.weight)
    moment = resumed.state[other.weight]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    assert not moment.is_contiguous()
