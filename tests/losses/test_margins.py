"""Margins against per-image loops written from the papers' formulas; values, gradients and edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from facedistill.losses import margins

N, K = 5, 7


def _cosines(seed=0, dtype=torch.double):
    draw = torch.Generator().manual_seed(seed)
    cosines = (1.9 * torch.rand(N, K, generator=draw, dtype=torch.double) - 0.95).to(dtype)
    labels = tensor([0, 3, 3, 6, 1])
    cosines[0, 0], cosines[1, 3] = -0.97, 0.6  # one beyond π - m
    return cosines.requires_grad_(), labels


NORMS = tensor([3.0, 19.0, 25.0, 60.0, 140.0], dtype=torch.double)
MEAN, STD, EASE = tensor(22.0), tensor(9.0), tensor(0.3)


def _loop_arcface(cosines, labels, margin, beyond="linear"):
    rows = []
    for i in range(len(cosines)):
        row = list(cosines[i])
        theta, m = torch.acos(row[labels[i]]), float(margin[i]) if hasattr(margin, "__len__") else margin
        inside = {"linear": theta.item() + m < math.pi, "wrap": True, "easy": row[labels[i]].item() > 0}[
            beyond
        ]
        outside = row[labels[i]] - (m * math.sin(m) if beyond == "linear" else 0)
        row[labels[i]] = torch.cos(theta + m) if inside else outside
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _loop_cosface(cosines, labels):
    return torch.stack([
        torch.stack([c - 0.35 if j == labels[i] else c for j, c in enumerate(row)]) for i, row in enumerate(cosines)
    ])  # fmt: skip


def _loop_adaface(cosines, labels):
    rows = []
    for i, row in enumerate(cosines):
        z = max(-1.0, min(1.0, 0.333 * (min(max(NORMS[i].item(), 1e-3), 100) - 22.0) / (9.0 + 1e-3)))
        angle = torch.acos(row[labels[i]]) - 0.4 * z
        own = torch.cos(angle.clamp(1e-3, math.pi - 1e-3)) - (0.4 + 0.4 * z)
        rows.append(torch.stack([own if j == labels[i] else c for j, c in enumerate(row)]))
    return torch.stack(rows)


def _loop_magface(cosines, labels):
    clipped = [min(max(norm, 10), 110) for norm in NORMS.tolist()]
    return _loop_arcface(cosines, labels, [0.45 + (0.8 - 0.45) * (a - 10) / 100 for a in clipped], "easy")


def _loop_curricularface(cosines, labels):
    arc = _loop_arcface(cosines, labels, 0.5)
    rows = []
    for i, row in enumerate(cosines):
        edge = math.cos(math.acos(row[labels[i]].item()) + 0.5)
        hard = [c * (0.3 + c) if c.item() > edge else c for c in row]
        rows.append(torch.stack([arc[i, j] if j == labels[i] else c for j, c in enumerate(hard)]))
    return torch.stack(rows)


def _adaface(cosines, labels):
    target = margins.target_cosines(cosines, labels)
    return margins.replace_target(cosines, labels, margins.adaface_target(target, NORMS, mean=MEAN, std=STD))


def _curricularface(cosines, labels):
    target = margins.target_cosines(cosines, labels)
    others = margins.curricularface_others(cosines, target, margin_rad=0.5, ease=EASE)
    return margins.replace_target(others, labels, margins.arcface_target(target, 0.5))


CASES = {
    "arcface": (lambda c, y: margins.arcface(c, y, 0.5), lambda c, y: _loop_arcface(c, y, 0.5)),
    "wrap": (
        lambda c, y: margins.arcface(c, y, 0.5, beyond_pi="wrap"),
        lambda c, y: _loop_arcface(c, y, 0.5, "wrap"),
    ),
    "easy": (
        lambda c, y: margins.arcface(c, y, 0.5, beyond_pi="easy"),
        lambda c, y: _loop_arcface(c, y, 0.5, "easy"),
    ),
    "per image": (
        lambda c, y: margins.arcface(c, y, torch.linspace(0.2, 0.5, N)),
        lambda c, y: _loop_arcface(c, y, torch.linspace(0.2, 0.5, N)),
    ),
    "cosface": (lambda c, y: margins.cosface(c, y, 0.35), _loop_cosface),
    "adaface": (_adaface, _loop_adaface),
    "magface": (
        lambda c, y: margins.arcface(c, y, margins.magface_margin(NORMS), beyond_pi="easy"),
        _loop_magface,
    ),
    "curricularface": (_curricularface, _loop_curricularface),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_formula(name):
    ours, loop = CASES[name]
    for seed in range(4):
        cosines, labels = _cosines(seed)
        weights = torch.linspace(-1, 2, N * K, dtype=torch.double).view(N, K)
        found, expected = ours(cosines, labels), loop(cosines, labels)
        assert torch.allclose(found, expected, atol=1e-7)  # the buffers' mean and std are float32
        (gradient,) = torch.autograd.grad((weights * found).sum(), cosines)
        (expected_gradient,) = torch.autograd.grad((weights * expected).sum(), cosines)
        assert torch.allclose(gradient, expected_gradient, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_derivative(name):
    cosines, labels = _cosines(1)
    assert torch.autograd.gradcheck(lambda c: CASES[name][0](c, labels), (cosines,))


def test_exact_and_reference_gradient_of_arcface():
    own = tensor([0.6, -0.2, 0.9], dtype=torch.double, requires_grad=True)
    exact = margins.arcface_target(own, 0.5)
    reference = margins.arcface_target(own, 0.5, gradient="reference")
    assert torch.equal(exact, reference)
    (slope,) = torch.autograd.grad(exact.sum(), own)
    theta = own.detach().acos()
    assert torch.allclose(slope, torch.sin(theta + 0.5) / torch.sin(theta))
    (slope,) = torch.autograd.grad(reference.sum(), own)
    assert slope.tolist() == [1, 1, 1]


def test_the_three_ways_beyond_pi():
    own = tensor([math.cos(3.0), math.cos(0.3), math.cos(2.0)], dtype=torch.double)
    linear, wrap, easy = (
        margins.arcface_target(own, 0.5, beyond_pi=way) for way in ("linear", "wrap", "easy")
    )
    assert linear[0].item() == pytest.approx(math.cos(3.0) - 0.5 * math.sin(0.5))
    assert wrap[0].item() == pytest.approx(math.cos(3.5))
    assert easy.tolist() == pytest.approx([math.cos(3.0), math.cos(0.8), math.cos(2.0)])
    assert linear[1:].tolist() == pytest.approx([math.cos(0.8), math.cos(2.5)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_exactly_plus_and_minus_one_are_finite(name, dtype):
    cosines = torch.ones(N, K, dtype=dtype)
    cosines[1], cosines[2, 3], cosines[3] = -1, 0, 1 + torch.finfo(dtype).eps
    cosines.requires_grad_()
    margined = CASES[name][0](cosines, tensor([0, 3, 3, 6, 1]))
    assert margined.dtype == (dtype if dtype in (torch.float32, torch.float64) else torch.float32)
    margined.sum().backward()
    assert torch.isfinite(margined).all()
    assert torch.isfinite(cosines.grad).all()


def test_values_at_the_poles_are_exact():
    own = tensor([1.0, -1.0])
    found = margins.arcface_target(own, 0.5, beyond_pi="wrap")
    assert found.tolist() == pytest.approx([math.cos(0.5), -math.cos(0.5)], abs=1e-7)


def test_magface_margin_and_regularizer():
    norms = tensor([1.0, 10.0, 60.0, 110.0, 500.0], dtype=torch.double)
    assert margins.magface_margin(norms).tolist() == pytest.approx([0.45, 0.45, 0.625, 0.8, 0.8])
    expected = [a / 110**2 + 1 / a for a in (10, 10, 60, 110, 110)]
    assert margins.magface_regularizer(norms).tolist() == pytest.approx(expected)


def test_adaface_quality_turns_arcface_into_cosface():
    own = tensor([0.3, 0.3, 0.3], dtype=torch.double)
    norms = tensor([0.01, 22.0, 99.0], dtype=torch.double)
    found = margins.adaface_target(own, norms, mean=MEAN, std=tensor(1.0))
    theta = math.acos(0.3)
    expected = [math.cos(theta + 0.4), 0.3 - 0.4, math.cos(theta - 0.4) - 0.8]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_uniface_is_a_sum_of_binary_cross_entropies():
    cosines, labels = _cosines(2)
    bias = tensor(4.0, dtype=torch.double, requires_grad=True)
    logits = 10 * margins.cosface(cosines, labels, 0.4)
    found = margins.uniface(logits, labels, bias, impostor_weight=0.7)
    expected = []
    for i in range(N):
        loss = torch.log(1 + torch.exp(-(10 * (cosines[i, labels[i]] - 0.4) - bias)))
        for j in range(K):
            if j != labels[i]:
                loss = loss + 0.7 * torch.log(1 + torch.exp(10 * cosines[i, j] - bias))
        expected.append(loss)
    expected = torch.stack(expected)
    assert torch.allclose(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.sum(), [cosines, bias], retain_graph=True),
        torch.autograd.grad(expected.sum(), [cosines, bias]), strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, other)


def test_uniface_of_parts_adds_up():
    cosines, labels = _cosines(3)
    bias = tensor(1.0, dtype=torch.double)
    whole = margins.uniface(5 * cosines, labels, bias)
    left = margins.uniface(5 * cosines[:, :4], torch.where(labels < 4, labels, -1), bias)
    right = margins.uniface(5 * cosines[:, 4:], torch.where(labels >= 4, labels - 4, -1), bias)
    assert torch.allclose(left + right, whole)
