"""What processors can do, and copies from the host to an accelerator."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

from facedistill.system.messages import print_message

Precision = Literal["fp32", "bf16"]


def default_device() -> torch.device:
    """This process's GPU if there is one, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX, Arm BF16); else it is 8 to 27 times slower than float32."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


def usable_precision(precision: Precision, key: str, device: torch.device | None = None) -> Precision:
    """`precision`, or "fp32" and a message where the device does not multiply bfloat16 in hardware.

    Args:
        precision: As configured.
        key: Its key, for the message.
        device: That computes; None: a GPU if there is one.
    """
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    if precision != "bf16" or on_gpu or cpu_has_bfloat16():
        return precision
    _say_float32(key)
    return "fp32"


@functools.cache
def _say_float32(key: str) -> None:
    """Once for each key; a run loads its networks again for the evaluation."""
    print_message(
        f"{key}=bf16: this CPU has no bfloat16 instructions, so float32 is used, which is 8 or more times as fast here"
    )


def copied_to(device: torch.device, value: Tensor) -> Tensor:
    """`value` on `device`; the host does not wait for the work that the device has in its queue.

    A GPU copies from pageable memory only after that work, so the value goes through pinned memory.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=device.type != "mps")
