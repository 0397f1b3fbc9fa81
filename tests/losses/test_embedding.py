import math

import pytest
import torch

from facedistill.losses.embedding import cosine_distances, cosine_loss, embedding_mse, squared_errors


def _pair(dtype=torch.float64):
    seeded = torch.Generator().manual_seed(0)
    return tuple(torch.randn(5, 7, generator=seeded, dtype=torch.float64).to(dtype) for _ in range(2))


def test_mse_is_the_mean_over_batch_and_dimensions():
    student, teacher = _pair()
    slow = sum((student[i, d] - teacher[i, d]) ** 2 for i in range(5) for d in range(7)) / (5 * 7)
    assert embedding_mse(student, teacher).item() == pytest.approx(slow.item())


def test_cosine_loss_is_half_the_squared_distance_of_unit_embeddings():
    student, teacher = _pair()
    unit = [torch.stack([row / math.sqrt(sum(x * x for x in row)) for row in e]) for e in (student, teacher)]
    slow = sum(((s - t) ** 2).sum() / 2 for s, t in zip(*unit, strict=True)) / 5
    assert cosine_loss(student, teacher).item() == pytest.approx(slow.item())
    assert cosine_loss(3 * student, teacher).item() == pytest.approx(slow.item())


@pytest.mark.parametrize("loss", [embedding_mse, cosine_loss])
def test_laws(loss):
    student, teacher = _pair()
    student.requires_grad_()
    teacher.requires_grad_()
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None
    half = loss(student.detach().bfloat16(), teacher.detach().bfloat16())
    assert half.dtype == torch.float32
    assert half.isfinite()


def test_image_by_image_is_what_the_means_are_made_of():
    seeded = torch.Generator().manual_seed(5)
    student = torch.randn(4, 6, dtype=torch.double, generator=seeded).requires_grad_()
    teacher = torch.randn(4, 6, dtype=torch.double, generator=seeded).requires_grad_()
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        expected = sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 6
        assert torch.allclose(squared_errors(student, teacher)[i], expected)
        expected = 1 - (s * t).sum() / s.norm() / t.norm()
        assert torch.allclose(cosine_distances(student, teacher)[i], expected)
    for loss in (squared_errors, cosine_distances):
        assert torch.autograd.gradcheck(lambda s, loss=loss: loss(s, teacher.detach()), (student,))
        loss(student.bfloat16(), teacher.bfloat16()).sum().backward()
        assert student.grad.isfinite().all()
        assert teacher.grad is None
