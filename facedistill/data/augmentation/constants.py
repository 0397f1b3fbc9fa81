"""Fixed tensors, copied to a device once: a copy in each step would cost time, and could wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor


def kept(make: Callable[..., Tensor], like: Tensor, *arguments: int) -> Tensor:
    """`make(*arguments)` on the device and in the dtype of `like`; it must not be changed."""
    return _made(make, like.device, like.dtype, *arguments)


@lru_cache(maxsize=64)
def _made(make: Callable[..., Tensor], device: torch.device, dtype: torch.dtype, *arguments: int) -> Tensor:
    return make(*arguments).to(device, dtype)


def centers(size: int) -> Tensor:
    """Centers of `size` pixels in [-1, 1]."""
    return (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
