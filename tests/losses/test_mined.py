"""ILED and RPSD against loops over images and pairs."""

from __future__ import annotations

import pytest
import torch

from facedistill.losses.embedding import cosine_loss
from facedistill.losses.mined import instance_distillation, pair_similarity_distillation
from facedistill.models.memory_bank import EmbeddingQueue
from tests.helpers.random_tensors import cosine, random_embeddings

BANK = [torch.nn.functional.normalize(e) for e in random_embeddings(4, (4, 4), seed=1)]
EMPTY = [torch.zeros(2, 4, dtype=torch.float64)] * 2


def _slow_instance(student, teacher, hard_weight=1.0):
    distances = [1 - cosine(s, t) for s, t in zip(student, teacher, strict=True)]
    mean = sum(distances) / len(distances)
    weights = [1 + hard_weight if d > mean else 1.0 for d in distances]
    return sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)


def _slow_pairs(student, teacher, bank=BANK, num_pairs=3):
    gaps = []
    for i in range(len(student)):
        found = [(s, t) for j, (s, t) in enumerate(zip(student, teacher, strict=True)) if j != i]
        found += zip(*bank, strict=True)
        nearest = sorted(found, key=lambda pair: -cosine(teacher[i], pair[1]).item())[:num_pairs]
        gaps += [(cosine(student[i], s) - cosine(teacher[i], t)) ** 2 for s, t in nearest]
    return sum(gaps) / len(gaps)


def _pairs(student, teacher, bank=BANK, num_pairs=3):
    return pair_similarity_distillation(student, teacher, *bank, num_pairs=num_pairs)


@pytest.mark.parametrize(
    ("loss", "slow"), [(instance_distillation, _slow_instance), (_pairs, _slow_pairs)], ids=["iled", "rpsd"]
)
def test_loss_and_gradient_are_those_of_the_loop(loss, slow):
    student, teacher = random_embeddings(5, (4, 4))
    student.requires_grad_()
    found, expected = loss(student, teacher), slow(student, teacher)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    gradients = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))
    half = student.detach().bfloat16().requires_grad_()
    loss(half, teacher.bfloat16()).backward()
    assert half.grad.isfinite().all()
    assert loss(half, teacher.bfloat16()).dtype == torch.float32


def test_without_a_weight_iled_is_the_cosine_loss():
    student, teacher = random_embeddings(5, (4, 4))
    found = instance_distillation(student, teacher, hard_weight=0.0)
    assert found.item() == pytest.approx(cosine_loss(student, teacher).item())
    assert instance_distillation(student, teacher) > found


def test_empty_places_of_the_bank_are_no_images():
    student, teacher = random_embeddings(5, (4, 4))
    none = [bank[:0] for bank in EMPTY]
    found, expected = (_pairs(student, teacher, bank, 100) for bank in (EMPTY, none))
    assert found.item() == pytest.approx(expected.item(), abs=1e-14)
    assert _pairs(student[:1], teacher[:1], EMPTY) == 0
    assert _pairs(student[:1], teacher[:1], none) == 0


def test_the_queue_keeps_the_last_images_of_both_networks():
    queue = EmbeddingQueue(4, student_dim=2, teacher_dim=3)
    for start in (1.0, 4.0, 20.0):
        count = 3 if start < 20 else 5
        angles = torch.arange(start, start + count)
        student = torch.stack([angles.cos(), angles.sin()], 1)
        queue.push(2 * student, 3 * torch.cat([student, torch.zeros(count, 1)], 1))
        if start == 4.0:  # images 1 to 6 were pushed: the last four
            found = {round(float(v), 4) for v in queue.student[:, 0]}
            assert found == {round(float(v), 4) for v in torch.arange(3.0, 7.0).cos()}
            assert torch.allclose(queue.student, queue.teacher[:, :2])
    assert torch.allclose(queue.student.norm(dim=1), torch.ones(4))
    assert sorted(queue.student[:, 0].tolist()) == pytest.approx(
        sorted(torch.arange(21.0, 25).cos().tolist())
    )
