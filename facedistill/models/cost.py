"""What a network costs: parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def count_params(network: nn.Module) -> int:
    """Number of parameters, each shared tensor once; buffers do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, input_size: Sequence[int] = (3, 112, 112)) -> int:
    """Multiply-accumulates of one image in convolutions and linear layers (1 MAC = 2 FLOPs).

    Norms, activations, pooling and additions are not counted, as papers of this field do not. Every module's
    training mode is left as it was.

    Args:
        network: Takes (N, *input_size) floating-point images.
        input_size: (C, H, W) of one image.

    Returns:
        Multiply-accumulates per image.
    """
    macs = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features

    handles = [
        m.register_forward_hook(add) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    modes = {module: module.training for module in network.modules()}
    reference = next(network.parameters(), torch.zeros(()))
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *input_size, device=reference.device, dtype=reference.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return macs
