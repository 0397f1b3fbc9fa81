"""Random numbers of a batch, taken column by column."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Columns:
    """Assigns the columns of the draws in a fixed order, independent of which effects are on."""

    def __init__(self, draws: Tensor) -> None:
        self._columns: Iterator[Tensor] = iter(draws.unbind(1))

    def one(self) -> Tensor:
        """(N,) numbers in [0, 1)."""
        return next(self._columns)

    def many(self, count: int) -> Tensor:
        """(N, count) numbers in [0, 1)."""
        return torch.stack([self.one() for _ in range(count)], 1)

    def normals(self, count: int) -> Tensor:
        """(N, count) standard normal numbers, all finite."""
        inside = (self.many(count) + 2.0**-25).clamp_max_(1 - 2.0**-24)  # the largest of all rounds to 1
        return torch.special.ndtri(inside)
