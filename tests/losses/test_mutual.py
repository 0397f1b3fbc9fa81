"""Deep mutual learning's divergence against a loop over identities."""

from __future__ import annotations

import math

import pytest
import torch

from facedistill.losses.mutual import peer_divergence


def _logits(seed):
    return torch.randn(3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_and_gradient_by_hand(temperature):
    logits, peer = _logits(0).requires_grad_(), _logits(1).requires_grad_()
    loss = peer_divergence(logits, peer, temperature)
    for i in range(3):
        p = [math.exp(float(z) / temperature) for z in logits[i]]
        q = [math.exp(float(z) / temperature) for z in peer[i]]
        expected = sum(
            b / sum(q) * (math.log(b / sum(q)) - math.log(a / sum(p))) for a, b in zip(p, q, strict=True)
        )
        assert loss[i].item() == pytest.approx(temperature**2 * expected, abs=1e-12)
    loss.sum().backward()
    softmax = [(z / temperature).softmax(1) for z in (logits, peer)]
    assert torch.allclose(logits.grad, temperature * (softmax[0] - softmax[1]), atol=1e-12)
    assert peer.grad is None


def test_equal_peers_cost_nothing_and_large_logits_stay_finite():
    logits = _logits(2)
    assert peer_divergence(logits, logits).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda z: peer_divergence(z, _logits(3)), (logits.requires_grad_(),))
    half = torch.tensor([[64.0, -64.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = peer_divergence(half, -half)
    loss.sum().backward()
    assert (loss.dtype, loss.shape) == (torch.float32, (1,))
    assert half.grad.isfinite().all()
