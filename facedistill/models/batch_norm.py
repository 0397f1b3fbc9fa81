"""Batch norm over the images of all processes, on any device, for networks that were built with ordinary batch norm."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facedistill.distributed.collectives import gather_constant, total_constant, world_size
from facedistill.errors import ConfigError
from facedistill.losses.precision import at_least_float32

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronize(network: nn.Module) -> None:
    """Has every batch norm of a network normalize by the global batch while it trains in several processes.

    Output, gradients and running statistics are those of one process on the joined batch, up to rounding. Modules, names
    and state stay as they are. torch's `SyncBatchNorm` is not used: it has no CPU version, and converting to it takes
    the activation out of timm's `BatchNormAct2d`, which all batch norms of TinyFaR are.

    Args:
        network: Changed in place; every process gives it the same number of images.

    Raises:
        ConfigError: If it holds a kind of batch norm that is neither torch's nor timm's.
    """
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if type(module) not in _PLAIN and not (hasattr(module, "act") and hasattr(module, "drop")):
            raise ConfigError(
                f"trainer.sync_batchnorm: {name} is a {type(module).__name__}, which cannot be synchronized; set "
                "trainer.sync_batchnorm=false, and each process normalizes by its own share"
            )
        module.forward = functools.partial(_forward, module)  # type: ignore[method-assign]


def undo_synchronize(network: nn.Module) -> None:
    """Undoes `synchronize`."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            vars(module).pop("forward", None)


@torch.compiler.disable  # a compiled graph cannot contain collectives
def _forward(module: _BatchNorm, values: Tensor) -> Tensor:
    if not module.training or world_size() == 1:
        return type(module).forward(module, values)
    normalized, mean, var = _Normalized.apply(values, module.weight, module.bias, module.eps)
    count = values.numel() // values.shape[1] * world_size()
    if module.track_running_stats:
        _move_statistics(module, mean, var * (count / (count - 1)))
    return normalized if type(module) in _PLAIN else module.act(module.drop(normalized))  # type: ignore[operator]


@torch.no_grad()
def _move_statistics(module: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    momentum = 1 / int(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum)
    module.running_var.lerp_(var.to(module.running_var.dtype), momentum)


class _Normalized(torch.autograd.Function):
    """(N, C, ...) to weight · (x - mean) / sqrt(var + eps) + bias, with mean and biased var (C,) of the global batch.

    Back, with g the gradient and x̂ the normalized values: weight / sqrt(var + eps) · (g - mean(g) - x̂ · mean(g x̂)),
    means over the global batch. Weight and bias get this process's sums, which are averaged like those of any parameter.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.var_mean(at_least_float32(values), _all_but_channels(values), correction=0)
        variances, means = gather_constant(torch.stack(own)[None]).unbind(1)
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)  # shares are equal
        ctx.save_for_backward(values, weight, mean, (var + eps).rsqrt())
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(values, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> Any:
        values, weight, mean, scale = ctx.saved_tensors
        shape = [1, -1, *[1] * (values.dim() - 2)]
        dims = _all_but_channels(values)
        unit = (values - mean.view(shape)) * scale.view(shape)
        wide = at_least_float32(gradient)
        sums = torch.stack([wide.sum(dims), (wide * unit).sum(dims)])
        count = values.numel() // values.shape[1] * world_size()
        of_gradient, of_product = total_constant(sums) / count
        factor = scale if weight is None else scale * weight
        back = (wide - of_gradient.view(shape) - unit * of_product.view(shape)) * factor.view(shape)
        to_weight, to_bias = (sums[1], sums[0]) if weight is not None else (None, None)
        return back.to(values.dtype), to_weight, to_bias, None


def _all_but_channels(values: Tensor) -> list[int]:
    return [0, *range(2, values.dim())]
