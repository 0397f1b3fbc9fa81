"""CoupleFace's relations to other identities against loops."""

from __future__ import annotations

import pytest
import torch

from facedistill.losses.relations_to_centers import nearest_identities, relation_excess


def _drawn(*shape, seed):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def _centers(identities, seed):
    centers = _drawn(identities, 4, seed=seed)
    return centers / centers.norm(dim=1, keepdim=True)


def test_neighbors_are_the_most_alike_other_identities():
    teacher, centers, labels = _drawn(5, 4, seed=0), _centers(7, 1), torch.tensor([0, 6, 3, 3, 2])
    found = nearest_identities(teacher, labels, centers, 3)
    for row, embedding, own in zip(found.tolist(), teacher, labels.tolist(), strict=True):
        scores = {k: float(embedding @ centers[k]) for k in range(7) if k != own}
        assert row == sorted(scores, key=lambda k: -scores[k])[:3]
    assert nearest_identities(teacher, labels, centers, 100).shape == (5, 6)
    assert nearest_identities(teacher, torch.zeros(5, dtype=torch.long), centers[:1], 100).shape == (5, 0)


def test_loss_and_gradient_by_hand():
    student, teacher = _drawn(5, 4, seed=2).requires_grad_(), _drawn(5, 4, seed=3)
    others = _centers(15, 4).view(5, 3, 4)
    expected = []
    for s, t, group in zip(student, teacher, others, strict=True):
        s, t = s / s.norm(), t / t.norm()
        expected.append(sum(torch.relu(g @ s - g @ t - 0.03) for g in group) / 3)
    expected = torch.stack(expected)
    assert (expected == 0).any() or (expected > 0).all()
    loss = relation_excess(student, teacher, others)
    assert torch.allclose(loss, expected, atol=1e-12)
    (found,) = torch.autograd.grad(loss.sum(), student)
    (by_hand,) = torch.autograd.grad(expected.sum(), student)
    assert torch.allclose(found, by_hand, atol=1e-12)
    assert torch.autograd.gradcheck(lambda s: relation_excess(s, teacher, others), (student,))


def test_only_being_too_close_costs():
    center = torch.tensor([[[1.0, 0.0]]])
    close, apart = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 1.0]])
    assert relation_excess(apart, close, center).item() == 0
    assert relation_excess(close, apart, center).item() == pytest.approx(2**0.5 - 0.03)
    assert relation_excess(close, close, center).item() == 0


def test_edges():
    student = _drawn(1, 4, seed=5).bfloat16().requires_grad_()
    teacher = _drawn(1, 4, seed=6).requires_grad_()
    loss = relation_excess(student, teacher.bfloat16(), _centers(3, 7)[None].bfloat16())
    loss.sum().backward()
    assert student.grad.isfinite().all()
    assert teacher.grad is None
    assert relation_excess(student, teacher, torch.zeros(1, 0, 4)).tolist() == [0.0]
