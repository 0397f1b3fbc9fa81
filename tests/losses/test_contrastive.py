"""CRD's noise-contrastive estimation against the released formula, written as loops."""

from __future__ import annotations

import math

import pytest
import torch

from facedistill.losses.contrastive import bank_scores, log_normalizer, noise_contrastive

NUM_IMAGES, M, T = 50, 6, 0.07


def _unit(*shape, seed):
    drawn = torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


def _released(queries, own, others, z):
    """Exponentials, quotients and eps, as in crd/criterion.py."""
    eps, noise = 1e-7, M / NUM_IMAGES
    losses = []
    for i in range(len(queries)):
        x = [torch.exp(queries[i] @ own[i] / T) / z]
        x += [torch.exp(queries[i] @ other / T) / z for other in others[i]]
        loss = -torch.log(x[0] / (x[0] + noise + eps))
        for negative in x[1:]:
            loss = loss - torch.log(noise / (negative + noise + eps))
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize("shared", [True, False])
def test_loss_and_gradient_are_those_of_the_released_formula(shared):
    queries = _unit(3, 5, seed=0).requires_grad_()
    own, others = _unit(3, 5, seed=1), _unit(3, M, 5, seed=2)
    if shared:
        others = others[:1].expand(3, M, 5)
    scores = bank_scores(queries, own, others[0] if shared else others)
    exponentials = [math.exp(float(queries[i] @ v) / T) for i in range(3) for v in [own[i], *others[i]]]
    z = sum(exponentials) / len(exponentials) * NUM_IMAGES
    log_z = log_normalizer(scores, T, NUM_IMAGES)
    assert float(log_z) == pytest.approx(math.log(z), abs=1e-12)

    loss, expected = noise_contrastive(scores, log_z, T, NUM_IMAGES), _released(queries, own, others, z)
    assert torch.allclose(loss, expected, rtol=2e-6)  # eps = 1e-7 beside c = 0.12
    (found,) = torch.autograd.grad(loss.sum(), queries)
    (gradient,) = torch.autograd.grad(expected.sum(), queries)
    assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-7)


def test_gradcheck():
    queries = _unit(2, 4, seed=3).requires_grad_()
    own, others = _unit(2, 4, seed=4), _unit(M, 4, seed=5)

    def loss(queries):
        return noise_contrastive(bank_scores(queries, own, others), torch.tensor(4.0).double(), T, NUM_IMAGES)

    assert torch.autograd.gradcheck(loss, (queries,))


def test_a_better_match_costs_less_and_extremes_stay_finite():
    log_z = torch.tensor(math.log(NUM_IMAGES))
    good = noise_contrastive(torch.tensor([[1.0, -1.0, -1.0]]), log_z, T, NUM_IMAGES)
    bad = noise_contrastive(torch.tensor([[-1.0, 1.0, 1.0]]), log_z, T, NUM_IMAGES)
    assert 0 <= good.item() < bad.item()
    queries = _unit(1, 4, seed=6).bfloat16().requires_grad_()
    scores = bank_scores(queries, _unit(1, 4, seed=7).bfloat16(), _unit(M, 4, seed=8).bfloat16())
    loss = noise_contrastive(scores, torch.tensor(-300.0), 0.001, NUM_IMAGES)
    assert (loss.dtype, loss.shape) == (torch.float32, (1,))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert queries.grad.isfinite().all()
