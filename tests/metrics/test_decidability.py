"""Decidability of a few identities against a loop, and ties."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facedistill.metrics.decidability import decidability, tied


def faces(noise: float, k: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(k, 16, generator=generator)
    return base, base + noise * torch.randn(k, 16, generator=generator)


def test_equals_the_formula_in_a_loop() -> None:
    base, variation = faces(0.8, k=6)
    found = decidability(base, variation)
    genuine, impostor = [], []
    for i in range(6):
        for j in range(6):
            dot = sum(float(a) * float(b) for a, b in zip(base[i], variation[j], strict=True))
            lengths = [math.sqrt(sum(float(a) ** 2 for a in vector)) for vector in (base[i], variation[j])]
            (genuine if i == j else impostor).append(dot / math.prod(lengths))
    means = [sum(group) / len(group) for group in (genuine, impostor)]
    variances = [
        sum((score - mean) ** 2 for score in group) / (len(group) - 1)
        for group, mean in zip((genuine, impostor), means, strict=True)
    ]
    assert found.genuine == pytest.approx(means[0])
    assert found.impostor == pytest.approx(means[1])
    assert found.d_prime == pytest.approx((means[0] - means[1]) / math.sqrt(sum(variances) / 2))
    above = sum((g > i) + (g == i) / 2 for g in genuine for i in impostor)
    assert found.auc == pytest.approx(above / len(genuine) / len(impostor))


def test_only_an_equally_good_network_ties() -> None:
    clean, noisy = decidability(*faces(0.1)), decidability(*faces(2.0))
    assert clean.d_prime > noisy.d_prime
    assert not tied(clean, noisy)
    assert tied(clean, clean)
    base, variation = faces(0.1)
    assert tied(clean, decidability(base * 3, variation + 1e-4))


def test_random_embeddings_separate_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    found = decidability(torch.randn(40, 64, generator=generator), torch.randn(40, 64, generator=generator))
    assert abs(found.d_prime) < 0.6
    assert 0.35 < found.auc < 0.65
