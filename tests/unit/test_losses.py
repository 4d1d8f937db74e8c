"""Values and gradients of the losses at the edges; parity with other implementations is in tests/parity."""

import functools
import math

import pytest
import torch

from query2label.config import LossConfig
from query2label.losses import asymmetric_loss, bce_loss, build_loss, focal_loss

LOSSES = {
    "bce": bce_loss,
    "asymmetric": asymmetric_loss,
    "asymmetric with margin": functools.partial(asymmetric_loss, gamma_pos=1.0, gamma_neg=4.0, margin=0.05),
    "margin alone": functools.partial(asymmetric_loss, gamma_neg=0.0, margin=0.2),
    "focal": focal_loss,
    "focal with alpha": functools.partial(focal_loss, gamma=0.5, alpha=0.25),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def gradient(loss, logits, targets):
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    value.backward()
    return value.detach(), logits.grad


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_losses__are_finite_and_push_wrong_answers_back_at_logits_of_100(loss, dtype):
    logits = torch.tensor([[-100.0, 100.0, -100.0, 100.0]], dtype=dtype)
    targets = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    value, grad = gradient(loss, logits, targets)
    assert value.dtype == torch.float32
    assert math.isfinite(value)
    assert grad.dtype == dtype
    assert torch.isfinite(grad).all()
    assert grad[0, 0] <= -0.2  # a missed positive rises
    assert grad[0, 1] >= 0.2  # a wrong positive falls
    assert torch.equal(grad[0, 2:].abs() < 1e-6, torch.tensor([True, True]))


@every_loss
def test_losses__compute_in_float32_under_autocast(loss):
    logits, targets = torch.tensor([[3.3, -2.7, 0.1]]), torch.tensor([[0.0, 1.0, 1.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, targets)
    assert torch.equal(value, loss(logits, targets))


@every_loss
def test_losses__gradient_of_a_wrong_answer_does_not_shrink_as_it_gets_worse(loss):
    logits = torch.linspace(3, 100, 50).reshape(1, -1)
    for targets, side in ((torch.zeros(1, 50), 1), (torch.ones(1, 50), -1)):
        grad = gradient(loss, side * logits, targets)[1][0] * side
        assert grad.min() > 0.75 * grad.max()


@every_loss
@pytest.mark.parametrize("bad", [0.0, 1e30, math.inf, math.nan])
def test_losses__unknown_adds_exactly_nothing(loss, bad):
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, -0.1]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    dropped = torch.tensor([[False, True, False], [True, True, False]])
    expected = sum(
        loss(logits[row : row + 1, ~dropped[row]], targets[row : row + 1, ~dropped[row]]) for row in range(2)
    )
    value, grad = gradient(loss, logits.masked_fill(dropped, bad), targets.masked_fill(dropped, -1.0))
    assert value == pytest.approx(float(expected) / 2, abs=1e-15)
    assert torch.equal(grad[dropped], torch.zeros(3, dtype=torch.float64))


@every_loss
def test_losses__nan_target_is_not_unknown(loss):
    targets = torch.tensor([[1.0, math.nan]])
    assert math.isnan(loss(torch.zeros(1, 2), targets))


@every_loss
def test_losses__nan_logit_of_a_known_label_shows(loss):
    assert math.isnan(loss(torch.tensor([[math.nan, 0.0]]), torch.tensor([[0.0, 1.0]])))


@every_loss
def test_losses__soft_target_is_the_mixture_of_both_hard_ones(loss):
    logits = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones_like(logits), torch.zeros_like(logits)
    mixed = loss(logits, torch.full_like(logits, 0.3))
    assert float(mixed) == pytest.approx(0.3 * float(loss(logits, ones)) + 0.7 * float(loss(logits, zeros)))


@every_loss
def test_losses__sum_over_labels_and_mean_over_images(loss):
    logits, targets = torch.tensor([[0.7]]), torch.tensor([[1.0]])
    one = float(loss(logits, targets))
    assert float(loss(logits.repeat(3, 4), targets.repeat(3, 4))) == pytest.approx(4 * one, rel=1e-6)


@every_loss
def test_losses__empty_batch_and_all_unknown_cost_nothing(loss):
    assert float(loss(torch.zeros(0, 3), torch.zeros(0, 3))) == 0
    value, grad = gradient(loss, torch.randn(2, 3), -torch.ones(2, 3))
    assert float(value) == 0
    assert torch.equal(grad, torch.zeros(2, 3))


def test_asymmetric_loss__negatives_under_the_margin_add_nothing():
    scores = torch.tensor([[0.01, 0.19, 0.21, 0.5]], dtype=torch.float64)
    loss = functools.partial(asymmetric_loss, gamma_neg=0.0, margin=0.2)
    value, grad = gradient(loss, scores.logit(), torch.zeros_like(scores))
    assert float(value) == pytest.approx(-math.log(1 - 0.01) - math.log(1 - 0.3))
    assert torch.equal(grad[0, :2], torch.zeros(2, dtype=torch.float64))
    assert grad[0, 2:].tolist() == pytest.approx([0.21, 0.5])


def test_asymmetric_loss__focal_weights_carry_no_gradient():
    logits = torch.tensor([[0.4, -0.8]], dtype=torch.float64)
    loss = functools.partial(asymmetric_loss, gamma_pos=2.0, gamma_neg=3.0)
    _, grad = gradient(loss, logits, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    p = torch.sigmoid(logits)[0]
    assert grad[0].tolist() == pytest.approx([float(-((1 - p[0]) ** 3)), float(p[1] ** 4)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (functools.partial(asymmetric_loss, gamma_pos=-1.0), "gamma_pos is -1.0: a focusing exponent"),
        (functools.partial(asymmetric_loss, gamma_neg=math.nan), "gamma_neg is nan: a focusing exponent"),
        (functools.partial(asymmetric_loss, margin=1.0), "margin is 1.0: it must be at least 0"),
        (functools.partial(asymmetric_loss, margin=-0.1), "margin is -0.1: it must be at least 0"),
        (functools.partial(focal_loss, gamma=-0.5), "gamma is -0.5: a focusing exponent"),
        (functools.partial(focal_loss, alpha=1.5), r"alpha is 1.5: it must be in \[0, 1\]"),
    ],
)
def test_losses__refuse_impossible_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 1), torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (LossConfig(name="bce"), bce_loss),
        (LossConfig(name="focal", gamma=1.5, alpha=0.3), functools.partial(focal_loss, gamma=1.5, alpha=0.3)),
        (
            LossConfig(gamma_pos=1.0, gamma_neg=4.0, margin=0.05),
            functools.partial(asymmetric_loss, gamma_pos=1.0, gamma_neg=4.0, margin=0.05),
        ),
    ],
    ids=["bce", "focal", "asymmetric"],
)
def test_build_loss__passes_on_its_own_settings(config, same):
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1.0, 0.0, -1.0, 0.5]]).repeat(3, 1)
    assert torch.equal(build_loss(config)(logits, targets), same(logits, targets))
