"""What processors can do, and copies from the host to an accelerator."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX, Arm BF16); else it is 8 to 27 times slower than float32."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


def copied_to(device: torch.device, value: Tensor) -> Tensor:
    """`value` on `device`; the host does not wait for the work that the device has in its queue.

    A GPU copies from pageable memory only after that work, so the value goes through pinned memory.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=device.type != "mps")
