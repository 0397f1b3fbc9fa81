"""Collective operations between the processes of a run; in a single process each one is the identity.

Gradients follow one rule: a loss computed from gathered tensors is the same number in every process, and after
the averaging of `DistributedDataParallel` its gradient is exactly that of one process on the global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in [0, world_size)."""
    return dist.get_rank() if world_size() > 1 else 0


def gather(tensor: Tensor) -> Tensor:
    """Joins the (N, ...) tensors of all processes to (W·N, ...), in the order of ranks; N is the same everywhere.

    The backward pass sums the gradients that all processes have for this process's part. Every process computes
    the same loss from the joined tensor, so the sum is W times the gradient of one, and averaging over W
    processes makes it exact. (EKD's released code multiplies by W once more.)
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


def gather_constant(tensor: Tensor) -> Tensor:
    """`gather` without gradient, for labels, teacher embeddings or norms; any dtype."""
    return tensor if world_size() == 1 else _joined(tensor.detach())


def in_sample_order(gathered: Tensor) -> Tensor:
    """Gathered rows (W·N, ...) in the order of the global batch, of which each process has every W-th image."""
    return gathered.unflatten(0, (world_size(), -1)).transpose(0, 1).flatten(0, 1)


def total_constant(values: Tensor) -> Tensor:
    """Sum over the processes, elementwise, without gradient; the shape is the same everywhere."""
    values = values.detach().clone(memory_format=torch.contiguous_format)
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def global_norm(shared: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
    """Euclidean norm () of all tensors together, in float32 or better.

    Args:
        shared: Tensors that are the same in every process; they count once. At least one.
        own: Tensors that differ between processes; those of all processes count.
    """
    squares = [_square(tensors, like=shared[0]) for tensors in (shared, own)]
    return (squares[0] + total_constant(squares[1])).sqrt()


def _square(tensors: Sequence[Tensor], *, like: Tensor) -> Tensor:
    wide = torch.promote_types(like.dtype, torch.float32)
    parts = [torch.linalg.vector_norm(tensor.detach(), dtype=wide).square() for tensor in tensors]
    return torch.stack(parts).sum() if parts else like.new_zeros((), dtype=wide)


def broadcast(tensor: Tensor) -> None:
    """Overwrites `tensor` with that of the first process."""
    if world_size() > 1:
        dist.broadcast(tensor, src=0)


def global_mean(values: Tensor) -> Tensor:
    """Mean of (N,) values over all processes, whose N may differ (0 included); 0 if no process has a value.

    Returns:
        () the global mean in value. Its gradient is scaled by W, so that averaging over processes gives that of
        the global mean.
    """
    if world_size() == 1:
        return values.sum() / max(1, values.numel())
    count = torch.full((), float(values.numel()), device=values.device)
    dist.all_reduce(count)
    share = values.sum() / count.clamp(min=1)
    total = share.detach().clone()
    dist.all_reduce(total)
    scaled = share * world_size()
    return scaled + (total - scaled.detach())


def lost_a_process(error: BaseException) -> bool:
    """Whether `error` is raised by a collective when another process has died or does not answer."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS_OF_GLOO)


# gloo raises plain RuntimeErrors.
_SIGNS_OF_GLOO = (
    "/gloo/",
    "[gloo",
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return _joined(tensor)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may share it
        dist.all_reduce(gradient)
        share = len(gradient) // world_size()
        return gradient[rank() * share : (rank() + 1) * share]


def _joined(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
