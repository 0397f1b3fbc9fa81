import hashlib

import numpy as np
import torch

from facedistill.models.latents import draw_latents


def test_a_sample_depends_on_seed_stream_and_index_only():
    together = draw_latents(3, "fresh", torch.arange(100, 120), 16)
    assert torch.equal(together[7:9], draw_latents(3, "fresh", torch.tensor([107, 108]), 16))
    assert not torch.equal(together, draw_latents(4, "fresh", torch.arange(100, 120), 16))
    assert not torch.equal(together, draw_latents(3, "validation", torch.arange(100, 120), 16))


def test_latents_are_standard_normal_and_uncorrelated():
    drawn = draw_latents(0, "fresh", torch.arange(4000), 8).double()
    assert drawn.mean(0).abs().max() < 0.08
    assert (torch.cov(drawn.T) - torch.eye(8)).abs().max() < 0.1


def test_each_row_is_what_a_generator_of_its_own_draws():
    """A generator that is moved to a row keeps nothing of the row before, such as half a word of random bits."""
    indices = torch.tensor([5, 2**40, 0])
    key = np.frombuffer(hashlib.sha256(b"7/fresh").digest()[:16], dtype=np.uint64)
    for width in (1, 3, 512):
        drawn = draw_latents(7, "fresh", indices, width)
        for row, index in zip(drawn.numpy(), indices.tolist(), strict=True):
            bits = np.random.Philox(key=key, counter=np.array([0, 0, 0, index], dtype=np.uint64))
            own = np.random.Generator(bits)
            assert np.array_equal(row, own.standard_normal(width, dtype=np.float32))


def test_these_numbers_never_change():
    """Every published run rests on them."""
    drawn = draw_latents(2021, "fresh", torch.tensor([0, 10**9]), 3)
    expected = torch.tensor(GOLDEN)
    assert torch.equal(drawn, expected)


GOLDEN = [
    [-0.054222576320171356, 0.44055497646331787, -0.6894091367721558],
    [0.15477317571640015, 0.5603013038635254, -0.39523619413375854],
]
