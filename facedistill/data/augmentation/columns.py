"""Random numbers of a batch, taken column by column."""

from __future__ import annotations

import torch
from torch import Tensor


class Columns:
    """Assigns the columns of the draws in a fixed order, independent of which effects are on."""

    def __init__(self, draws: Tensor) -> None:
        self._left = draws

    def one(self) -> Tensor:
        """(N,) numbers in [0, 1)."""
        return self.many(1)[:, 0]

    def many(self, count: int) -> Tensor:
        """(N, count) numbers in [0, 1)."""
        taken, self._left = self._left[:, :count], self._left[:, count:]
        return taken

    def normals(self, count: int) -> Tensor:
        """(N, count) standard normal numbers, all finite."""
        inside = (self.many(count) + 2.0**-25).clamp_max_(1 - 2.0**-24)  # the largest of all rounds to 1
        return torch.special.ndtri(inside)
