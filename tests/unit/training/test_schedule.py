import math

import pytest
import torch

from query2label.training.schedule import cycled_beta1, rate_factor


def factors(num_steps, **settings):
    return [rate_factor(step, num_steps=num_steps, **settings) for step in range(num_steps)]


@pytest.mark.parametrize(("num_steps", "warmup"), [(100, 0.2), (57, 0.3), (10, 0.5)])
def test_rate_factor__one_cycle_is_pytorchs(num_steps, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=num_steps, pct_start=warmup, cycle_momentum=False
    )
    expected = []
    for _ in range(num_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = factors(num_steps, schedule="one_cycle", warmup_fraction=warmup)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("num_steps", "warmup"), [(100, 0.2), (57, 0.3), (10, 0.5)])
def test_cycled_beta1__is_pytorchs(num_steps, warmup):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=num_steps, pct_start=warmup
    )
    expected = []
    for _ in range(num_steps):
        expected.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        scheduler.step()
    found = [cycled_beta1(step, num_steps=num_steps, warmup_fraction=warmup) for step in range(num_steps)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert min(found) == pytest.approx(0.85, abs=1e-3)


def test_rate_factor__one_cycle_has_its_endpoints_and_peak():
    found = factors(100, schedule="one_cycle", warmup_fraction=0.2)
    assert found[0] == pytest.approx(1 / 25)
    assert max(found) == found[19] == 1.0
    assert found[-1] == pytest.approx(1 / 25 / 1e4)


def test_rate_factor__cosine_rises_in_a_line_and_falls_to_zero():
    found = factors(100, schedule="cosine", warmup_fraction=0.1)
    assert found[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[99] == pytest.approx((1 + math.cos(math.pi * 89 / 90)) / 2)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 50])
def test_rate_factor__is_positive_and_at_most_one_at_the_edges(schedule, warmup, num_steps):
    found = factors(num_steps, schedule=schedule, warmup_fraction=warmup)
    assert all(0 < factor <= 1 for factor in found)
    assert warmup == 1.0 or max(found) > 0.9 or num_steps < 4


@pytest.mark.parametrize("step", [-1, 10])
def test_rate_factor__refuses_a_step_outside_the_run(step):
    with pytest.raises(ValueError, match="is not in a run of 10 steps"):
        rate_factor(step, num_steps=10, schedule="cosine", warmup_fraction=0.1)
