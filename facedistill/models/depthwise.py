"""Gradients of depthwise convolutions on a CPU, some of which oneDNN computes 4 to 80 times too slowly in bfloat16."""

from __future__ import annotations

import functools
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
Three = tuple[Tensor | None, Tensor | None, Tensor | None]


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution whose slow gradients are computed in float32 and returned in the input's type.

    Slow in bfloat16 are the input's gradient with a stride (oneDNN 3: 50 ms instead of 1 for 32 x 144 x 28 x 28) and the
    kernel's gradient above 3 x 3 (47 ms instead of 11 for 32 x 672 x 7 x 7 and 5 x 5). The others stay in the input's type.

    Example:
        >>> x, weight = torch.randn(2, 8, 14, 14), torch.randn(8, 1, 3, 3)
        >>> tuple(DepthwiseConvolution.apply(x, weight, None, (2, 2), (1, 1)).shape)
        (2, 8, 7, 7)
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        """Convolves (N, C, H, W) with (C, 1, K, K')."""
        return F.conv2d(x, weight, bias, stride, padding, groups=x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps what the gradients need."""
        x, weight, bias, *ctx.numbers = inputs
        ctx.save_for_backward(x, weight)
        ctx.bias_sizes = None if bias is None else [len(bias)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, `weight` and `bias`."""
        x, weight = ctx.saved_tensors
        stride, padding = ctx.numbers
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]

        def computed(slow: bool, needed: list[bool]) -> Three:
            if not any(needed):
                return None, None, None
            dtype = torch.float32 if slow else x.dtype
            found = torch.ops.aten.convolution_backward(
                gradients[0].to(dtype),
                x.to(dtype) if needed[1] else torch.empty_like(x, dtype=dtype),  # only its shape is read
                weight.to(dtype),
                ctx.bias_sizes,
                *(stride, padding, (1, 1), False, (0, 0), x.shape[1], needed),
            )
            of_x, of_weight, of_bias = (None if one is None else one.to(x.dtype) for one in found)
            return of_x, of_weight, of_bias

        of_x, _, _ = computed(max(stride) > 1, [need_x, False, False])
        _, of_weight, of_bias = computed(max(weight.shape[2:]) > 3, [False, need_weight, need_bias])
        return of_x, of_weight, of_bias, None, None


def use_fast_gradients(network: nn.Module) -> None:
    """Lets a network's depthwise convolutions with slow gradients use `DepthwiseConvolution` in bfloat16 on a CPU, by autocast
    or by their own type."""
    for module in network.modules():
        if _slow(module):
            vars(module)["forward"] = functools.partial(_convolve, module)


def undo_fast_gradients(network: nn.Module) -> None:
    """Takes back what `use_fast_gradients` did."""
    for module in network.modules():
        if _slow(module):
            vars(module).pop("forward", None)


def _slow(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a plain depthwise convolution with a slow gradient, and no subclass that computes something else."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and module.groups == module.in_channels == module.out_channels > 1
        and (max(module.stride) > 1 or max(module.kernel_size) > 3)
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return nn.Conv2d.forward(module, x)
    weight: Tensor = module.weight
    bias: Tensor | None = module.bias
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        x, weight, bias = x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
    if x.dtype != torch.bfloat16:
        return nn.Conv2d.forward(module, x)
    return DepthwiseConvolution.apply(x, weight, bias, module.stride, module.padding)
