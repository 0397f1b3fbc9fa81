"""Latents as a function of (seed, stream, sample index).

Nothing else enters: not the number of devices, not the worker, not what was drawn before. The same stream of
faces therefore comes back after any resume and on any number of devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

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
    rows = np.empty((len(indices), dim), dtype=np.float32)
    for row, generator in zip(rows, row_generators(seed, stream, indices), strict=True):
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(rows)


def row_generators(seed: int, stream: str, indices: Tensor) -> Iterator[np.random.Generator]:
    """One generator for all rows, moved to the counter of each index in turn.

    Moving it takes 0.7 µs and building another one 6 µs.

    Args:
        seed: The run's seed.
        stream: What the numbers are for.
        indices: (N,) indices >= 0.

    Yields:
        N times the same generator, at the start of the stream of that index.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    bits = np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64))
    generator, state = np.random.Generator(bits), bits.state
    for index in indices.tolist():
        state["state"]["counter"][3] = index
        bits.state = state
        yield generator
