"""Relational losses against loops over pairs and triangles."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from facedistill.losses.relations import cckd_loss, darkrank_loss, pkt_loss, sp_loss
from facedistill.losses.rkd import rkd_angle_loss, rkd_distance_loss
from tests.helpers.random_tensors import cosine, random_embeddings

LOSSES = [sp_loss, pkt_loss, cckd_loss, darkrank_loss, rkd_distance_loss, rkd_angle_loss]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap < 1 else gap - 0.5


def _slow_sp(student, teacher):
    total = 0
    for i in range(len(student)):
        rows = [[_dot(e[i], other) for other in e] for e in (student, teacher)]
        rows = [[x / _dot(row, row) ** 0.5 for x in row] for row in rows]
        total = total + sum((a - b) ** 2 for a, b in zip(*rows, strict=True))
    return total / len(student) ** 2


def _slow_pkt(student, teacher):
    total = 0
    for i in range(len(student)):
        rows = [[(cosine(e[i], other) + 1) / 2 for other in e] for e in (student, teacher)]
        ours, theirs = ([x / sum(row) for x in row] for row in rows)
        total = total + sum(t * torch.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(ours, theirs, strict=True))
    return total / len(student) ** 2


def _slow_cckd(student, teacher, orders=(0, 1, 2)):
    def kernel(a, b):
        series = (0.8**p / math.factorial(p) * cosine(a, b) ** p for p in orders)
        return math.exp(-0.8) * sum(series)

    pairs = itertools.product(range(len(student)), repeat=2)
    gaps = [kernel(student[i], student[j]) - kernel(teacher[i], teacher[j]) for i, j in pairs]
    return sum(gap**2 for gap in gaps) / len(student) ** 2


def _slow_darkrank(student, teacher, length=4):
    def distance(a, b):
        return _dot(gap := a / _dot(a, a) ** 0.5 - b / _dot(b, b) ** 0.5, gap) ** 0.5

    total = 0
    for query in range(len(student)):
        others = [i for i in range(len(student)) if i != query]
        order = sorted(others, key=lambda i: distance(teacher[query], teacher[i]).item())[:length]
        scores = [-3 * distance(student[query], student[i]) ** 3 for i in order]
        for place in range(len(scores)):
            total = total - scores[place] + torch.log(sum(torch.exp(s) for s in scores[place:]))
    return total / len(student)


def _distance(a, b):
    return _dot(a - b, a - b) ** 0.5


def _slow_distance(student, teacher):
    size = len(student)
    pairs = list(itertools.permutations(range(size), 2))
    lengths = [{(i, j): _distance(e[i], e[j]) for i, j in pairs} for e in (student, teacher)]
    means = [sum(d.values()) / len(d) for d in lengths]
    return sum(_huber(lengths[0][p] / means[0], lengths[1][p] / means[1]) for p in pairs) / size**2


def _slow_angle(student, teacher):
    size, total = len(student), 0
    for i, j, k in itertools.product(range(size), repeat=3):
        if j in (i, k):
            continue
        total = total + _huber(
            *(
                _dot(e[i] - e[j], e[k] - e[j]) / _distance(e[i], e[j]) / _distance(e[k], e[j])
                for e in (student, teacher)
            )
        )
    return total / size**3


@pytest.mark.parametrize(
    ("loss", "slow"),
    list(
        zip(
            LOSSES,
            [_slow_sp, _slow_pkt, _slow_cckd, _slow_darkrank, _slow_distance, _slow_angle],
            strict=True,
        )
    ),
)
@pytest.mark.parametrize("size", [3, 6])
def test_losses_and_gradients_are_those_of_the_loop(loss, slow, size):
    student, teacher = random_embeddings(size)
    student.requires_grad_()
    teacher.requires_grad_()
    found, expected = loss(student, teacher), slow(student, teacher.detach())
    assert found.item() > 1e-3
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(expected, student)
    found.backward()
    assert torch.allclose(student.grad, gradient, atol=1e-10)
    assert teacher.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck(loss):
    student, teacher = random_embeddings(4)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student.requires_grad_(),))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_student_like_its_teacher_loses_nothing_but_the_order_itself(loss):
    _, teacher = random_embeddings()
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    if loss is not darkrank_loss:  # a likelihood, not a distance
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["random", "equal students", "equal teachers", "twins"])
def test_edges_are_finite(loss, size, dtype, case):
    student, teacher = random_embeddings(size, dtype=dtype)
    if case == "twins":
        student[-1] = student[0]
        teacher[-1] = teacher[0]
    elif case != "random":
        (student if case == "equal students" else teacher)[:] = 1
    student.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if size == 1:
        assert value.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-5])
def test_angles_between_faces_that_are_one_have_no_direction(noise):
    student, teacher = (e.float() for e in random_embeddings(6))
    student[1] = student[0] + noise
    student.requires_grad_()
    rkd_angle_loss(student, teacher).backward()
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_angles_do_not_depend_on_how_many_are_in_memory(at_once):
    student, teacher = random_embeddings(7)
    student.requires_grad_()
    whole, parts = (
        rkd_angle_loss(student, teacher),
        rkd_angle_loss(student, teacher, vertices_at_once=at_once),
    )
    assert parts.item() == pytest.approx(whole.item(), abs=1e-14)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (whole, parts)]
    assert torch.allclose(*gradients, atol=1e-14)


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_rkd_ignores_shift_and_size(loss):
    student, teacher = random_embeddings()
    assert loss(3 * student + 1, teacher).item() == pytest.approx(loss(student, teacher).item())


def test_tface_cckd_is_cosine_sp_with_a_smaller_weight():
    student, teacher = random_embeddings()
    unit = [e / e.norm(dim=1, keepdim=True) for e in (student, teacher)]
    cosines = (unit[0] @ unit[0].T - unit[1] @ unit[1].T).square().mean()
    assert cckd_loss(student, teacher, orders=(0, 1)).item() == pytest.approx(
        0.12921 * cosines.item(), rel=1e-3
    )
    assert cckd_loss(student, teacher).item() != pytest.approx(0.12921 * cosines.item(), rel=1e-2)


def test_the_teachers_order_is_the_likeliest():
    _, teacher = random_embeddings()
    student = teacher[torch.tensor([3, 0, 4, 1, 2])]
    assert darkrank_loss(teacher, teacher) < darkrank_loss(student, teacher)
