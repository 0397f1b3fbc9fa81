"""GKD against the formula written out per image, the decomposition it rests on, and its edge cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.losses.grouping import Grouping, group_thresholds
from facedistill.losses.groups import gkd, group_terms
from tests.helpers.random_tensors import random_logits

RULES = [
    Grouping("top_n", size=7),
    Grouping("top_n", size=1),
    Grouping("top_n", size=7, ranked_by="teacher"),
    Grouping("batch_mass", mass=0.8, step=3),
    Grouping("batch_mass", mass=0.8, step=3, ranked_by="teacher"),
    Grouping("sample_mass", mass=0.6),
    Grouping("sample_mass", mass=0.6, ranked_by="teacher"),
]


def _thresholds(ranking, labels, grouping):
    return group_thresholds(ranking, labels, grouping, 4.0, Partition.whole(ranking.shape[1]))


def _softmax(row, temperature):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def _groups(ranking, labels, grouping, temperature):
    """Sets of identities, by sorting every image's list."""
    ranking, n, k = ranking.tolist(), len(ranking), len(ranking[0])
    size = grouping.size
    if grouping.rule == "batch_mass":
        probabilities = [_softmax(row, 1.0) for row in ranking]
        mass = sorted((sum(row[j] for row in probabilities) for j in range(k)), reverse=True)
        size = 1
        while size < k and sum(mass[:size]) < grouping.mass * n:
            size += grouping.step
    groups = []
    for row, label in zip(ranking, labels.tolist(), strict=True):
        order = [label, *sorted((j for j in range(k) if j != label), key=lambda j: -row[j])]
        if grouping.rule == "sample_mass":
            p, size, mass = _softmax(row, temperature), 0, 0.0
            while mass < grouping.mass:
                mass += p[order[size]]
                size += 1
        groups.append(set(order[:size]))
    return groups


def _terms(student, teacher, groups, temperature):
    """(N, 3) binary, primary, secondary, from the definition; differentiable."""
    found = []
    for z, u, group in zip(student, teacher, groups, strict=True):
        p, q = (z / temperature).softmax(0), (u / temperature).softmax(0)
        inside, outside = sorted(group), sorted(set(range(len(z))) - group)
        parts = []
        for some in (inside, outside):
            ps, qs = p[some], q[some]
            ps, qs = ps / ps.sum(), qs / qs.sum()
            parts.append(sum((b * (b / a).log() for a, b in zip(ps, qs, strict=True)), p.sum() * 0))
        binary = p.sum() * 0
        if outside:
            for some in (inside, outside):
                binary = binary + q[some].sum() * (q[some].sum() / p[some].sum()).log()
        found.append(torch.stack([binary, *parts]))
    return torch.stack(found)


@pytest.mark.parametrize("grouping", RULES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_and_gradient_are_those_of_the_formula(grouping, temperature):
    student, teacher, labels = random_logits(5, 23, spread=6.0)
    student.requires_grad_()
    groups = _groups(student if grouping.ranked_by == "student" else teacher, labels, grouping, temperature)
    if grouping.size > 1:
        assert {len(group) for group in groups} != {23}
    weights = torch.tensor([1.5, 8.0, 0.7], dtype=torch.double)
    expected = temperature**2 * (_terms(student, teacher, groups, temperature) @ weights)
    found = gkd(student, teacher, labels, grouping, alpha=1.5, beta=8.0, lambda_=0.7, temperature=temperature)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    upstream = torch.linspace(0.3, 2, 5, dtype=torch.double)
    (gradient,) = torch.autograd.grad(expected @ upstream, student)
    (own,) = torch.autograd.grad(found @ upstream, student)
    assert torch.allclose(own, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [1, 2, 7, 22, 23, 24, 10_000])
def test_the_decomposition_of_the_divergence_is_exact(size):
    student, teacher, labels = random_logits(5, 23, spread=6.0, seed=size)
    student.requires_grad_()
    grouping = Grouping("top_n", size=size)
    thresholds = _thresholds(student.detach(), labels, grouping)
    terms = group_terms(student, teacher, labels, thresholds, 4.0, Partition.whole(23))
    whole = torch.nn.functional.kl_div(
        (student / 4).log_softmax(1), (teacher / 4).log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    mass = torch.tensor(
        [
            sum(row[j] for j in group)
            for row, group in zip(
                (teacher / 4).softmax(1).tolist(),
                _groups(student.detach(), labels, grouping, 4.0),
                strict=True,
            )
        ],
        dtype=torch.double,
    )
    total = terms.binary + mass * terms.primary + (1 - mass) * terms.secondary
    assert torch.allclose(total, whole, rtol=1e-12, atol=1e-13)
    (expected,) = torch.autograd.grad(whole.sum(), student, retain_graph=True)
    (found,) = torch.autograd.grad(total.sum(), student)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("grouping", RULES, ids=str)
def test_gradcheck(grouping):
    student, teacher, labels = random_logits(3, 9, spread=2.0)
    student.requires_grad_()
    weights = {"alpha": 0.5, "beta": 2.0, "lambda_": 0.3, "temperature": 2.0}
    assert torch.autograd.gradcheck(
        lambda z: gkd(z, teacher, labels, grouping, **weights), student, atol=1e-6, rtol=1e-5
    )


def test_the_gradient_can_be_asked_for_twice():
    student, teacher, labels = random_logits(5, 23, spread=6.0)
    student.requires_grad_()
    loss = gkd(student, teacher, labels, RULES[0]).mean()
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    (second,) = torch.autograd.grad(2 * loss, student)
    assert torch.equal(2 * first, second)


def test_the_teacher_gets_no_gradient_and_equal_logits_no_loss():
    student, teacher, labels = random_logits(5, 23, spread=6.0)
    teacher.requires_grad_()
    student.requires_grad_()
    gkd(student, teacher, labels, RULES[2], lambda_=1.0).sum().backward()
    assert teacher.grad is None
    same = gkd(student, student.detach(), labels, RULES[0], lambda_=1.0)
    assert same.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grouping", RULES, ids=str)
def test_half_precision_extreme_logits_are_finite(dtype, grouping):
    student, teacher, labels = random_logits(5, 23, spread=20.0)
    student, teacher = student.clamp(-64, 64).to(dtype), teacher.clamp(-64, 64).to(dtype)
    student[0], teacher[0] = -64.0, -64.0  # everything tied, and the label apart
    student[0, labels[0]], teacher[0, labels[0]] = 64.0, -64.0
    student.requires_grad_()
    for temperature in (1.0, 4.0):
        loss = gkd(student, teacher, labels, grouping, lambda_=1.0, temperature=temperature)
        assert loss.dtype == torch.float32
        assert loss.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.mean(), student)
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()


def test_a_half_and_a_double_agree():
    student, teacher, labels = random_logits(5, 23, spread=6.0, dtype=torch.bfloat16)
    exact = gkd(student.double(), teacher.double(), labels, RULES[0], lambda_=0.5)
    assert torch.allclose(gkd(student, teacher, labels, RULES[0], lambda_=0.5).double(), exact, rtol=1e-5)


def test_logits_128_apart_keep_their_digits_at_temperature_1():
    student, teacher = torch.full((1, 4), -64.0), torch.full((1, 4), -64.0)
    student[0, 0], teacher[0, 0] = 64.0, 64.0
    teacher[0, 1] = -60.0
    student.requires_grad_()
    terms = group_terms(
        student, teacher, torch.tensor([0]), torch.tensor([torch.inf]), 1.0, Partition.whole(4)
    )
    exact = _terms(student.double(), teacher.double(), [{0}], 1.0)[0].detach()
    assert terms.secondary.item() == pytest.approx(exact[2].item(), rel=1e-5)  # a mass of 1e-55 lies there
    assert terms.binary.item() == pytest.approx(0, abs=1e-30)
    (gradient,) = torch.autograd.grad(terms.secondary.sum(), student)
    assert gradient[0, 1].item() == pytest.approx(1 / 3 - math.exp(4) / (math.exp(4) + 2), rel=1e-5)


@pytest.mark.parametrize("grouping", [*RULES, Grouping()], ids=str)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 2), (4, 1), (1, 5), (3, 7)])
def test_few_identities_and_a_batch_of_one(grouping, n, k):
    student, teacher, labels = random_logits(n, k, spread=6.0)
    student.requires_grad_()
    expected = _terms(
        student,
        teacher,
        _groups(student if grouping.ranked_by == "student" else teacher, labels, grouping, 4.0),
        4.0,
    )
    loss = gkd(student, teacher, labels, grouping, lambda_=1.0)
    assert torch.allclose(
        loss, 16 * (expected * torch.tensor([1.0, 8.0, 1.0])).sum(1).nan_to_num(), atol=1e-11
    )
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.isfinite().all()


def test_ties_at_the_border_are_all_in_whatever_their_order():
    student = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0]])
    teacher = torch.tensor([[1.0, 2.0, 5.0, 0.0, 1.0]])
    threshold = _thresholds(student, torch.tensor([0]), Grouping("top_n", size=2))
    assert threshold.tolist() == [3.0]
    order = [0, 3, 1, 2, 4]
    one = gkd(student, teacher, torch.tensor([0]), Grouping("top_n", size=2))
    other = gkd(student[:, order], teacher[:, order], torch.tensor([0]), Grouping("top_n", size=2))
    assert one.item() == pytest.approx(other.item(), rel=1e-6)


def test_thresholds_are_logits_of_the_list_itself():
    student, _, labels = random_logits(6, 2000, spread=6.0, dtype=torch.float32)
    for row, label, threshold in zip(
        student, labels, _thresholds(student, labels, Grouping("top_n", size=100)), strict=True
    ):
        others = sorted((value for j, value in enumerate(row.tolist()) if j != label), reverse=True)
        assert threshold.item() == others[98]
    assert _thresholds(student, labels, Grouping("top_n", size=1)).tolist() == [math.inf] * 6
    assert _thresholds(student, labels, Grouping("top_n", size=2001)).tolist() == [-math.inf] * 6


@pytest.mark.parametrize("grouping", RULES, ids=str)
def test_nothing_waits_for_the_device(grouping):
    """Reading a number back from a tensor, or a shape that depends on one, is refused in this mode."""
    with FakeTensorMode():
        student = torch.randn(4, 50, requires_grad=True)
        labels = torch.zeros(4, dtype=torch.int64)
        with pytest.raises(DataDependentOutputException):
            labels.sum().item()
        loss = gkd(student, torch.randn(4, 50), labels, grouping, lambda_=1.0).mean()
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.shape == student.shape


@pytest.mark.parametrize(("arguments", "message"), [
    ({"rule": "top"}, "method.grouping: expected top_n, batch_mass or sample_mass, got 'top'"),
    ({"size": 0}, "method.size: expected at least 1, got 0"),
    ({"mass": 93}, "method.mass: expected a probability in (0, 1], got 93"),
    ({"step": 0}, "method.step: expected at least 1, got 0"),
    ({"ranked_by": "both"}, "method.ranked_by: expected student or teacher, got 'both'"),
])  # fmt: skip
def test_messages(arguments, message):
    with pytest.raises(ConfigError) as caught:
        Grouping(**arguments)
    assert str(caught.value) == message
