"""Random numbers of a batch, taken column by column."""

from __future__ import annotations

import torch
from torch import Tensor


class Columns:
    """Assigns the columns of the draws in a fixed order, independent of which effects are on."""

    def __init__(self, draws: Tensor) -> None:
        self._draws, self._next = draws, 0

    def one(self) -> Tensor:
        """(N,) numbers in [0, 1)."""
        self._next += 1
        return self._draws[:, self._next - 1]

    def many(self, count: int) -> Tensor:
        """(N, count) numbers in [0, 1)."""
        self._next += count
        return self._draws[:, self._next - count : self._next]

    def normals(self, count: int) -> Tensor:
        """(N, count) standard normal numbers, all finite."""
        inside = (self.many(count) + 2.0**-25).clamp_max_(1 - 2.0**-24)  # the largest of all rounds to 1
        return torch.special.ndtri(inside)
