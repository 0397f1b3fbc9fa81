"""Latents as a function of (seed, stream, sample index).

Nothing else enters: not the number of devices, not the worker, not what was drawn before. The same stream of
faces therefore comes back after any resume and on any number of devices.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def draw_latents(seed: int, stream: str, indices: Tensor, dim: int) -> Tensor:
    """Draws standard normal latents, each from its own counter-based random stream.

    Args:
        seed: The run's seed.
        stream: What the numbers are for ("fresh", "resample", "validation", …); streams are independent.
        indices: (N,) sample indices >= 0.
        dim: L, the width of one latent.

    Returns:
        (N, L) float32 on the CPU; row i depends on (seed, stream, indices[i]) only.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype=np.uint64)
    rows = np.empty((len(indices), dim), dtype=np.float32)
    for row, index in zip(rows, indices.tolist(), strict=True):
        bits = np.random.Philox(key=key, counter=np.array([0, 0, 0, index], dtype=np.uint64))
        np.random.Generator(bits).standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(rows)
