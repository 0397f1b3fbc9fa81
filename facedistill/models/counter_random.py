"""Random numbers as a function of (seed, stream, index), in tensor operations: Philox 4x32-10.

Every number has its own counter, so a row does not depend on the device, the process, the batch, or what was drawn before.
The bits are those of the reference implementation (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def uniform(seed: int, stream: str, indices: Tensor, count: int) -> Tensor:
    """Draws numbers in [0, 1), `count` for each index.

    Args:
        seed: The run's seed.
        stream: What the numbers are for; streams are independent.
        indices: (N,) int64 >= 0, for example positions of samples in a run.
        count: Numbers per index.

    Returns:
        (N, count) float32 multiples of 2^-24 on the device of `indices`; row i depends on (seed, stream, indices[i]) only.

    >>> uniform(1, "example", torch.tensor([5]), 2).equal(uniform(1, "example", torch.tensor([3, 5]), 2)[1:])
    True
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
    blocks = torch.arange(-(-count // 4), device=indices.device)
    low, high = (indices & _LOW)[:, None], (indices >> 32)[:, None]
    zeros = torch.zeros_like(low + blocks)
    words = philox(torch.stack([low + zeros, high + zeros, blocks + zeros, zeros], dim=-1), key)
    return (words.flatten(1)[:, :count] >> 8).float() * 2.0**-24


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox 4x32-10 of (..., 4) counters: 32-bit words in an int64 tensor, and a key of two such words."""
    a, b, c, d = counter.unbind(-1)
    k, m = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64, and so their bits are those of the unsigned product.
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, c = ((second >> 32) ^ b ^ k) & _LOW, ((first >> 32) ^ d ^ m) & _LOW
        b, d = second, first  # of which the lower words count
        k, m = (k + _WEYL[0]) & _LOW, (m + _WEYL[1]) & _LOW
    return torch.stack([a, b, c, d], dim=-1) & _LOW
