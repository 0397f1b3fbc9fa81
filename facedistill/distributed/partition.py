"""Splits the identities of a margin head over the processes, and reduces over the parts.

The logits of a global batch form a matrix: one row per image, one column per identity. There are two ways to hold it:

- One part: each process has all K columns for the N rows of its own images. Nothing is exchanged.
- W parts, one per process: each process has about K / W columns for the W·N rows of all images.

`Partition` has one method per exchange, and each is the identity for one part, so that losses are written once.
The number of parts is stored, because a run in W processes may well have a head that is not split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from facedistill.distributed import collectives
from facedistill.distributed.collectives import rank, world_size
from facedistill.errors import ConfigError


@dataclass(frozen=True)
class Partition:
    """The identities [first, last) of K that this process holds.

    With one part each reduction returns its input:

    >>> whole = Partition.whole(5)
    >>> whole.columns(torch.tensor([0, 4])).tolist()
    [0, 4]
    >>> Partition(num_identities=5, first=3, last=5, num_parts=2).columns(torch.tensor([0, 4])).tolist()
    [-1, 1]

    Attributes:
        num_identities: K.
        first: First identity of this process.
        last: One past its last identity.
        num_parts: 1, or the number of processes W.
    """

    num_identities: int
    first: int
    last: int
    num_parts: int = 1

    @classmethod
    def whole(cls, num_identities: int) -> Self:
        """One part with all identities."""
        return cls(num_identities, 0, num_identities)

    @classmethod
    def of_this_process(cls, num_identities: int) -> Self:
        """The part of this process when each of W processes takes a run of ceil(K / W) identities.

        Raises:
            ConfigError: If this process would get no identity.
        """
        run = math.ceil(num_identities / world_size())
        first, last = (min(number * run, num_identities) for number in (rank(), rank() + 1))
        if first >= last:
            raise ConfigError(
                f"head: {num_identities} identities leave process {rank()} of {world_size()} without one; use the "
                "plain head"
            )
        return cls(num_identities, first, last, world_size())

    @property
    def is_whole(self) -> bool:
        """Whether there is one part."""
        return self.num_parts == 1

    def columns(self, labels: Tensor) -> Tensor:
        """Maps labels (N,) in [0, K) to columns of this part, -1 for identities of other parts."""
        if self.is_whole:
            return labels
        return torch.where((labels >= self.first) & (labels < self.last), labels - self.first, -1)

    def gather(self, values: Tensor) -> Tensor:
        """Values (N, ...) of this process's images to those of all rows, (W·N, ...), with gradient."""
        return values if self.is_whole else collectives.gather(values)

    def gather_constant(self, values: Tensor) -> Tensor:
        """`gather` without gradient, for any dtype."""
        return values if self.is_whole else collectives.gather_constant(values)

    def own_rows(self, values: Tensor) -> Tensor:
        """Values (W·N,) of all rows, the same in every process, to those of this process's images, (N,)."""
        return values if self.is_whole else _OwnRows.apply(values)

    def global_batch(self, values: Tensor) -> Tensor:
        """Values of the rows in this process to those of the global batch, (W·N, ...), without gradient."""
        return collectives.gather_constant(values) if self.is_whole else values.detach()

    def total(self, values: Tensor) -> Tensor:
        """Sum over the parts, elementwise, with gradient."""
        return values if self.is_whole else _Total.apply(values)

    @torch.no_grad()
    def largest(self, values: Tensor) -> Tensor:
        """Maximum over the parts, elementwise, without gradient."""
        if self.is_whole:
            return values
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def batch_total(self, mass: Tensor) -> Tensor:
        """Sums of this part's columns (K',) over its rows, to sums over the global batch, (K,), without gradient."""
        if self.is_whole:
            return collectives.gather_constant(mass[None]).sum(0)
        everyone = mass.new_zeros(self.num_identities)
        everyone[self.first : self.last] = mass
        return collectives.total_constant(everyone)

    def divided(self, weight: Tensor) -> Tensor:
        """The weight of this part's centers; its gradient is divided by W, since DDP will not average it."""
        return weight if self.is_whole else _Divided.apply(weight)

    def split(self, rows: Tensor, per_identity: int = 1) -> Tensor:
        """A copy of this part's rows of (K·C, ...), where each of the K identities has C = `per_identity` rows."""
        return rows[self.first * per_identity : self.last * per_identity].clone()

    def joined(self, rows: Tensor, per_identity: int = 1) -> Tensor:
        """(K·C, ...) from the rows of all parts: the inverse of `split`. All processes must call it."""
        if self.is_whole:
            return rows
        longest = math.ceil(self.num_identities / self.num_parts) * per_identity
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        return collectives.gather_constant(padded)[: self.num_identities * per_identity]


class _Total(torch.autograd.Function):
    """y = sum over processes of x_p.

    Every process computes the same function of y, and so the same gradient dL/dy. Since dy/dx_p = 1, that is also
    the gradient of this process's x_p: nothing needs to be exchanged.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return gradient


class _OwnRows(torch.autograd.Function):
    """(W·N,) to this process's (N,).

    Every process holds all W·N values and uses N of them. The gradient of each value is known to the process that
    uses it, so the backward pass gathers the gradients and all processes continue with the same (W·N,).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        share = len(values) // world_size()
        return values[rank() * share : (rank() + 1) * share].clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return collectives.gather_constant(gradient.contiguous())


class _Divided(torch.autograd.Function):
    """The identity, whose gradient is divided by W.

    A loss here is scaled so that averaging over W processes is exact (`collectives`). The parameters of a part are
    not averaged, so the division happens here.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return gradient / world_size()
