"""TripletDistillation against a loop over all triplets of a batch."""

from __future__ import annotations

import math

import pytest
import torch

from facedistill.losses.triplets import distances, triplet_distillation

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 3])


def _embeddings(seed, images=8, dim=4):
    drawn = torch.randn(images, dim, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.linspace(0.5, 2, images, dtype=torch.double)[:, None]


def _distance(a, b, kind):
    a, b = a / a.norm(), b / b.norm()
    return ((a - b) ** 2).sum() if kind == "squared" else torch.acos((a * b).sum())


def _by_hand(student, teacher, labels, kind, *, low=0.2, high=0.5, reach=0.35):
    n = range(len(labels))
    pairs: dict[tuple[int, int], list[tuple[torch.Tensor, float]]] = {}
    for a in n:
        for p in n:
            for k in n:
                if a == p or labels[a] != labels[p] or labels[a] == labels[k]:
                    continue
                positive = _distance(student[a], student[p], kind)
                negative = _distance(student[a], student[k], kind)
                if positive < negative < positive + reach:
                    lead = _distance(teacher[a], teacher[k], kind) - _distance(teacher[a], teacher[p], kind)
                    pairs.setdefault((a, p), []).append((positive - negative, max(0.0, float(lead))))
    if not pairs:
        return None
    largest = max(lead for triplets in pairs.values() for _, lead in triplets)
    means = []
    for triplets in pairs.values():
        hinges = [
            torch.relu(gap + ((high - low) / largest * lead if largest else 0.0) + low)
            for gap, lead in triplets
        ]
        means.append(sum(hinges) / len(hinges))
    return sum(means) / len(means)


@pytest.mark.parametrize("kind", ["squared", "angle"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_and_gradient_of_all_semi_hard_triplets(kind, seed):
    student, teacher = _embeddings(seed).requires_grad_(), _embeddings(seed + 10, dim=5)
    expected = _by_hand(student, teacher, LABELS.tolist(), kind)
    found = triplet_distillation(student, teacher, LABELS, distance=kind)
    assert expected is not None
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)
    (gradient,) = torch.autograd.grad(found, student)
    (by_hand,) = torch.autograd.grad(expected, student)
    assert torch.allclose(gradient, by_hand, atol=1e-9)


def test_the_margin_runs_from_least_to_most():
    student = torch.tensor([[1.0, 0.0], [1.0, 0.02], [math.cos(0.1), math.sin(0.1)]]).double()
    labels = torch.tensor([0, 0, 1])
    far, near = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]),
    )
    gaps = distances(student, "squared")
    lag = torch.stack([gaps[0, 1] - gaps[0, 2], gaps[1, 0] - gaps[1, 2]]).mean()
    wide = triplet_distillation(student, far.double(), labels)
    assert wide.item() == pytest.approx(float(lag) + 0.5, abs=1e-9)
    narrow = triplet_distillation(student, near.double(), labels)  # no lead at all: no division by zero
    assert narrow.item() == pytest.approx(float(lag) + 0.2, abs=1e-9)


@pytest.mark.parametrize(
    "labels", [torch.arange(8), torch.zeros(8, dtype=torch.long)], ids=["no genuine pair", "one identity"]
)
def test_without_a_triplet_there_is_no_term(labels):
    assert triplet_distillation(_embeddings(0), _embeddings(1), labels) is None
    assert triplet_distillation(_embeddings(0)[:1], _embeddings(1)[:1], labels[:1]) is None


def test_gradcheck_bf16_and_no_gradient_to_the_teacher():
    student, teacher = _embeddings(3).requires_grad_(), _embeddings(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: triplet_distillation(s, teacher.detach(), LABELS), (student,))
    half = student.detach().bfloat16().requires_grad_()
    loss = triplet_distillation(half, teacher.bfloat16(), LABELS, distance="angle", reach=2.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.isfinite().all()
    assert teacher.grad is None
    twin = torch.ones(4, 3, requires_grad=True)  # coinciding images: arccos has no slope at 1
    same = triplet_distillation(twin, twin.detach(), torch.tensor([0, 0, 1, 1]), distance="angle")
    assert same is None
