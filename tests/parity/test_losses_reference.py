"""The losses against a loop over the published formula, PyTorch's BCE and torchvision's focal loss."""

import functools
import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from query2label.losses import asymmetric_loss, bce_loss, focal_loss


def batch(seed=0, *, images=7, labels=11, scale=4.0, unknown=True):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, labels, dtype=torch.float64, generator=generator)
    targets = (torch.rand(images, labels, generator=generator) < 0.3).double()
    if unknown:
        targets[torch.rand(images, labels, generator=generator) < 0.2] = -1.0
    return logits, targets


def loop(logits, targets, *, gamma_pos, gamma_neg, margin):
    total = 0.0
    for row, labels in zip(logits.tolist(), targets.tolist(), strict=True):
        for x, y in zip(row, labels, strict=True):
            p, rest = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))
            q = max(p - margin, 0.0)
            if y == 1:
                total -= rest**gamma_pos * math.log(p)
            elif y == 0:
                total -= q**gamma_neg * math.log(1 - q)
    return total / len(logits)


@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "margin"),
    [(0, 0, 0), (0, 2, 0), (1, 4, 0.05), (0, 4, 0.2), (0, 0, 0.1), (0.5, 1.5, 0)],
)
def test_asymmetric_loss__equals_the_published_formula(gamma_pos, gamma_neg, margin):
    settings = {"gamma_pos": float(gamma_pos), "gamma_neg": float(gamma_neg), "margin": float(margin)}
    for seed in range(3):
        logits, targets = batch(seed)
        assert float(asymmetric_loss(logits, targets, **settings)) == pytest.approx(
            loop(logits, targets, **settings), rel=1e-12
        )
        assert float(asymmetric_loss(logits.float(), targets.float(), **settings)) == pytest.approx(
            loop(logits.float(), targets, **settings), rel=1e-5
        )


def test_bce_loss__equals_torch():
    logits, targets = batch(unknown=False)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 7
    assert float(bce_loss(logits, targets)) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("unknown", [False, True])
def test_asymmetric_loss__without_exponents_is_bce_in_value_and_gradient(unknown):
    logits, targets = batch(unknown=unknown)
    results = []
    for loss in (bce_loss, functools.partial(asymmetric_loss, gamma_pos=0.0, gamma_neg=0.0)):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, targets)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, None), (0.0, 0.7)])
def test_focal_loss__equals_torchvision_in_value_and_gradient(gamma, alpha):
    logits, targets = batch(unknown=False)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    focal_loss(ours, targets, gamma=gamma, alpha=alpha).backward()
    reference = sigmoid_focal_loss(theirs, targets, gamma=gamma, alpha=-1 if alpha is None else alpha) / 7
    reference.sum().backward()
    assert float(focal_loss(logits, targets, gamma=gamma, alpha=alpha)) == pytest.approx(
        float(reference.sum().detach()), rel=1e-12
    )
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_focal_loss__gradient_is_that_of_its_value():
    logits, targets = batch(images=2, labels=3)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets, alpha=0.3), logits.requires_grad_())
