"""Philox equals the published vectors, and its numbers depend on nothing but seed, stream and index."""

from __future__ import annotations

import pytest
import torch

from facedistill.models.counter_random import philox, uniform

# Random123, kat_vectors, philox4x32-10: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    first, second = _words(key)
    assert philox(torch.tensor(_words(counter)), (first, second)).tolist() == _words(expected)


def test_a_row_depends_on_seed_stream_and_index_only() -> None:
    everything = uniform(3, "a", torch.arange(100), 10)
    assert torch.equal(uniform(3, "a", torch.tensor([70, 7]), 10), everything[[70, 7]])
    assert torch.equal(uniform(3, "a", torch.arange(100), 5), everything[:, :5])
    for other in (uniform(4, "a", torch.arange(100), 10), uniform(3, "b", torch.arange(100), 10)):
        assert (other == everything).float().mean() < 0.01
    assert len(uniform(3, "a", torch.tensor([1, 1 + 2**32]), 1).unique()) == 2


def test_numbers_are_uniform_and_independent() -> None:
    numbers = uniform(0, "uniform", torch.arange(20_000), 8)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    counts = torch.histc(numbers, 20, 0, 1)
    expected = numbers.numel() / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # chi square, 19 degrees, p = 0.001
    correlations = torch.corrcoef(numbers.T) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.03
    assert abs(float(torch.corrcoef(numbers[:, 0].unfold(0, 2, 1).T)[0, 1])) < 0.03
