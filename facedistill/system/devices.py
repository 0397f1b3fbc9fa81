"""Copies from the host to an accelerator."""

from __future__ import annotations

import torch
from torch import Tensor


def copied_to(device: torch.device, value: Tensor) -> Tensor:
    """`value` on `device`; the host does not wait for the work that the device has in its queue.

    A GPU copies from pageable memory only after that work, so the value goes through pinned memory.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=device.type != "mps")
