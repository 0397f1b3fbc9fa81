"""KD and DKD against their formulas written out per image."""

from __future__ import annotations

import math

import pytest
import torch

from facedistill.losses.logits import dkd, kd
from tests.helpers.random_tensors import random_logits


def _divergence(p, q):
    """KL(q ‖ p) of two lists of probabilities."""
    return sum(b * (b / a).log() for a, b in zip(p, q, strict=True))


def _same(found, expected, student):
    assert torch.allclose(found, expected, rtol=1e-11)
    upstream = torch.linspace(0.5, 2, len(found), dtype=torch.double)
    (own,) = torch.autograd.grad(found @ upstream, student)
    (gradient,) = torch.autograd.grad(expected @ upstream, student)
    assert torch.allclose(own, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_formula(temperature):
    student, teacher, _ = random_logits(4, 9)
    student.requires_grad_()
    expected = []
    for z, u in zip(student, teacher, strict=True):
        p = [(value / temperature).exp() for value in z]
        q = [(value / temperature).exp() for value in u]
        expected.append(temperature**2 * _divergence([a / sum(p) for a in p], [b / sum(q) for b in q]))
    _same(kd(student, teacher, temperature=temperature), torch.stack(expected), student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_is_the_formula(temperature):
    student, teacher, labels = random_logits(4, 9)
    student.requires_grad_()
    expected = []
    for z, u, label in zip(student, teacher, labels.tolist(), strict=True):
        p, q = (z / temperature).softmax(0), (u / temperature).softmax(0)
        own = _divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = [j for j in range(len(z)) if j != label]
        among = _divergence([p[j] / (1 - p[label]) for j in others], [q[j] / (1 - q[label]) for j in others])
        expected.append(temperature**2 * (1.5 * own + 8 * among))
    found = dkd(student, teacher, labels, alpha=1.5, beta=8, temperature=temperature)
    _same(found, torch.stack(expected), student)


def test_dkd_with_the_teachers_weight_on_the_others_is_kd():
    student, teacher, labels = random_logits(4, 9)
    student.requires_grad_()
    rest = 1 - (teacher / 4).softmax(1).gather(1, labels[:, None])[:, 0]
    joined = dkd(student, teacher, labels, alpha=1, beta=0) + rest * dkd(
        student, teacher, labels, alpha=0, beta=1
    )
    _same(joined, kd(student, teacher), student)


def test_gradcheck():
    student, teacher, labels = random_logits(3, 5, spread=2.0)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kd(z, teacher), student)
    assert torch.autograd.gradcheck(lambda z: dkd(z, teacher, labels), student)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_extreme_logits_are_finite(dtype):
    labels = torch.tensor([0, 1])
    student = torch.tensor([[64.0, -64, -64], [64, -64, -64]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-64.0, 64, -64], [-64, 64, 0]], dtype=dtype)
    for temperature in (1.0, 4.0):
        own = kd(student, teacher, temperature=temperature)
        decoupled = dkd(student, teacher, labels, temperature=temperature)
        (gradient,) = torch.autograd.grad((own + decoupled).mean(), student)
        assert own.dtype == decoupled.dtype == torch.float32
        assert own.isfinite().all()
        assert decoupled.isfinite().all()
        assert gradient.isfinite().all()
    assert kd(student, teacher, temperature=1.0)[0].item() == pytest.approx(128, rel=1e-3)


def test_one_identity_and_one_image():
    student = torch.tensor([[3.0]], requires_grad=True)
    loss = kd(student, torch.tensor([[5.0]])) + dkd(student, torch.tensor([[5.0]]), torch.tensor([0]))
    loss.sum().backward()
    assert loss.item() == 0
    assert student.grad.item() == 0


def test_the_teacher_gets_no_gradient_and_equal_logits_no_loss():
    student, teacher, labels = random_logits(4, 9)
    student.requires_grad_()
    teacher.requires_grad_()
    (kd(student, teacher) + dkd(student, teacher, labels)).sum().backward()
    assert teacher.grad is None
    assert math.isclose(kd(student, student.detach()).abs().max().item(), 0, abs_tol=1e-12)
    assert dkd(student, student.detach(), labels).abs().max().item() < 1e-12
