import pytest
import torch
from torch import nn

from query2label.training.ema import WeightAverage, warmed_decay


def test_warmed_decay__starts_small_and_ends_at_the_decay():
    assert warmed_decay(0, decay=0.9997) == pytest.approx(0.1)
    assert warmed_decay(90, decay=0.9997) == pytest.approx(0.91)
    assert warmed_decay(10**6, decay=0.9997) == 0.9997


def test_weight_average__follows_the_formula_for_weights_and_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    average = WeightAverage(network, decay=0.6)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(5, 3, dtype=torch.float64))
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    for name, value in average.tensors().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    assert int(average.tensors()["1.num_batches_tracked"]) == 12


def test_weight_average__leaves_the_network_and_frozen_parts_alone():
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    network[0].requires_grad_(False)
    average = WeightAverage(network, decay=0.5)
    assert network[1].weight.requires_grad
    before = network[0].weight.clone()
    with torch.no_grad():
        network[1].weight.add_(1)
    average.update(0)
    assert torch.equal(average.network[0].weight, before)
    assert not torch.equal(average.network[1].weight, network[1].weight)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_restore__puts_back_the_average():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = WeightAverage(network, decay=0.5)
    with torch.no_grad():
        network.weight.add_(1)
    average.update(0)
    saved = {name: value.clone() for name, value in average.tensors().items()}
    other = WeightAverage(nn.Linear(3, 2), decay=0.5)
    other.restore(saved)
    assert all(torch.equal(other.tensors()[name], value) for name, value in saved.items())
