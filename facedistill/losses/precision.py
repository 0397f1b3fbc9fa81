"""The precision that losses compute in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return tensor if tensor.dtype.itemsize >= 4 else tensor.float()


def outside_autocast(loss: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Runs a loss outside autocast, which would take matrix products of float32 in half precision."""

    @functools.wraps(loss)
    def outside(first: Tensor, *others: P.args, **settings: P.kwargs) -> R:
        with torch.autocast(first.device.type, enabled=False):
            return loss(first, *others, **settings)

    return outside
