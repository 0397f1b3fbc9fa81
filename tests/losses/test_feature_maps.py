"""FitNets' hint and attention transfer against loops over channels and places."""

from __future__ import annotations

import pytest
import torch

from facedistill.losses.feature_maps import attention, attention_errors, hint_errors, same_size


def _maps(channels, size, seed, images=3):
    seeded = torch.Generator().manual_seed(seed)
    return torch.randn(images, channels, size, size, dtype=torch.double, generator=seeded)


def _hint_by_hand(student, teacher):
    losses = []
    for one, other in zip(student, teacher, strict=True):
        total = torch.zeros((), dtype=torch.double)
        for c in range(one.shape[0]):
            for y in range(one.shape[1]):
                for x in range(one.shape[2]):
                    total = total + (one[c, y, x] - other[c, y, x]) ** 2
        losses.append(total / one.numel())
    return torch.stack(losses)


def _attention_by_hand(maps, power):
    places = [
        sum(abs(maps[c, y, x]) ** power for c in range(len(maps)))
        for y in range(maps.shape[1])
        for x in range(maps.shape[2])
    ]
    root = torch.sqrt(sum(place**2 for place in places))
    return [place / root for place in places]


def _at_by_hand(student, teacher, power):
    losses = []
    for one, other in zip(student, teacher, strict=True):
        pairs = zip(_attention_by_hand(one, power), _attention_by_hand(other, power), strict=True)
        differences = [(a - b) ** 2 for a, b in pairs]
        losses.append(sum(differences) / len(differences))
    return torch.stack(losses)


def _same_gradient(loss, by_hand, tensor):
    (found,) = torch.autograd.grad(loss.sum(), tensor)
    (expected,) = torch.autograd.grad(by_hand.sum(), tensor)
    assert torch.allclose(found, expected, atol=1e-12)


def test_the_hint_is_a_mean_over_channels_and_places():
    student, teacher = _maps(4, 3, 0).requires_grad_(), _maps(4, 3, 1)
    loss, expected = hint_errors(student, teacher), _hint_by_hand(student, teacher)
    assert torch.allclose(loss, expected, atol=1e-12)
    _same_gradient(loss, expected, student)
    assert not hint_errors(teacher, teacher).any()


@pytest.mark.parametrize("power", [1, 2, 4])
def test_attention_transfer_is_the_released_mean(power):
    student, teacher = _maps(2, 3, 2).requires_grad_(), _maps(5, 3, 3)
    loss, expected = attention_errors(student, teacher, power), _at_by_hand(student, teacher, power)
    assert torch.allclose(loss, expected, atol=1e-12)
    _same_gradient(loss, expected, student)


def test_attention_is_a_unit_vector_and_knows_no_scale():
    maps = _maps(4, 5, 4)
    assert torch.allclose(attention(maps).norm(dim=1), torch.ones(3, dtype=torch.double))
    assert torch.allclose(attention(7 * maps), attention(maps))
    assert attention_errors(maps[:, :2], maps).max() <= 2 / 25


def test_different_sizes_meet_at_the_smaller():
    small, large = _maps(4, 2, 5), _maps(4, 6, 6)
    expected = torch.stack([large[:, :, :3, :3].mean((2, 3)), large[:, :, 3:, 3:].mean((2, 3))])
    for pair, pooled in ((same_size(small, large), 1), (same_size(large, small), 0)):
        assert torch.allclose(pair[pooled][:, :, 0, 0], expected[0])
        assert torch.allclose(pair[pooled][:, :, 1, 1], expected[1])
        assert torch.equal(pair[1 - pooled], small)
    tall = torch.zeros(1, 2, 4, 2)
    assert same_size(tall, torch.zeros(1, 2, 2, 8))[0].shape == (1, 2, 2, 2)


@pytest.mark.parametrize("loss", [hint_errors, attention_errors])
def test_gradients_are_exact_finite_in_bf16_and_spare_the_teacher(loss):
    student, teacher = _maps(3, 4, 7, images=2).requires_grad_(), _maps(3, 2, 8, images=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: loss(maps, teacher.detach()), (student,))
    loss(student, teacher).sum().backward()
    assert teacher.grad is None
    half = student.detach().bfloat16().requires_grad_()
    found = loss(half[:1], teacher[:1].bfloat16())
    assert (found.dtype, found.shape) == (torch.float32, (1,))
    found.sum().backward()
    assert half.grad.isfinite().all()
    zeros = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss(zeros, zeros.detach()).sum().backward()
    assert zeros.grad.isfinite().all()
