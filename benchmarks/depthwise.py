"""Gradients of single depthwise convolutions on a CPU: PyTorch's own and those of `facedistill.models.depthwise`.

    python benchmarks/depthwise.py

Prints a table in Markdown: milliseconds of the gradient of the input, or of the kernel, of one batch, in one thread; the smallest of
several repetitions. The columns of `facedistill` include the conversion to float32 where it converts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from facedistill.models.depthwise import DepthwiseConvolution


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution of square maps, and the gradient that is timed."""

    channels: int
    side: int
    kernel: int
    stride: int
    gradient: Literal["input", "kernel"]

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.channels} x {self.side}, {self.kernel} x {self.kernel}{stride}"


LAYERS = (
    Layer(144, 28, 3, 2, "input"),
    Layer(576, 7, 3, 2, "input"),
    Layer(672, 7, 5, 2, "input"),
    Layer(672, 7, 5, 1, "kernel"),
    Layer(1152, 4, 5, 1, "kernel"),
)
COLUMNS = (
    ("torch, bfloat16", False, torch.bfloat16),
    ("facedistill, bfloat16", True, torch.bfloat16),
    ("torch, float32", False, torch.float32),
    ("facedistill, float32", True, torch.float32),
)


def gradient(layer: Layer, batch: int, own: bool, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A function that computes the gradient of the layer's input or kernel again at each call; channels last, as students train."""
    torch.manual_seed(0)
    module = nn.Conv2d(
        layer.channels, layer.channels, layer.kernel, layer.stride, layer.kernel // 2, groups=layer.channels, bias=False
    ).to(dtype, memory_format=torch.channels_last)  # fmt: skip
    images = torch.randn(batch, layer.channels, layer.side, layer.side)
    x = images.to(dtype, memory_format=torch.channels_last)
    wanted = x if layer.gradient == "input" else module.weight
    module.requires_grad_(layer.gradient == "kernel")
    x.requires_grad_(layer.gradient == "input")
    numbers = module.stride, module.padding
    y = DepthwiseConvolution.apply(x, module.weight, None, *numbers) if own else module(x)
    of_y = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, wanted, of_y, retain_graph=True)[0]


def milliseconds(run: Callable[[], Tensor], repetitions: int) -> float:
    """The smallest time of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)


def table(layers: Sequence[Layer], batch: int, repetitions: int) -> str:
    """Times every layer in every column."""
    lines = [f"| batch of {batch} | gradient of | {' | '.join(name for name, _, _ in COLUMNS)} |"]
    lines.append(f"|---|---|{'--:|' * len(COLUMNS)}")
    for layer in layers:
        times = [milliseconds(gradient(layer, batch, own, dtype), repetitions) for _, own, dtype in COLUMNS]
        lines.append(f"| {layer} | {layer.gradient} | {' | '.join(f'{ms:.2f}' for ms in times)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread\n")
    print(table(LAYERS, chosen.batch, chosen.repetitions))
