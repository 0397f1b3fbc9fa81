"""Costs of a network: parameters, multiply-accumulates, bytes, and latency on this CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facedistill.models.backbones import Backbone


def count_params(network: nn.Module) -> int:
    """Number of parameters, each shared tensor once; buffers do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, input_size: Sequence[int] = (3, 112, 112)) -> int:
    """Multiply-accumulates of one image in convolutions and linear layers (1 MAC = 2 FLOPs).

    Norms, activations, pooling and additions are not counted, as usual in this field. Training modes are
    restored.

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


@dataclass(frozen=True)
class Size:
    """Size of a network.

    Attributes:
        params: Parameters.
        macs: Multiply-accumulates of one face in convolutions and linear layers.
        weights_mb: Parameters and statistics in float32, in units of 10^6 bytes.
    """

    params: int
    macs: int
    weights_mb: float


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one forward pass in eval mode, float32, eager, channels last.

    Attributes:
        one_ms: Of a single face.
        batch_ms: Of a batch.
        batch_size: Faces in that batch.
        share: Fraction of its threads' time that this process got; well below 1 if other processes kept the
            processor busy or the network is too small for all threads.
    """

    one_ms: float
    batch_ms: float
    batch_size: int
    share: float


def size_of(backbone: Backbone) -> Size:
    """Size of a backbone, which is left unchanged."""
    state = backbone.state_dict().values()
    side = backbone.input_spec.size_px
    return Size(
        params=count_params(backbone),
        macs=count_macs(backbone, (3, side, side)),
        weights_mb=sum(tensor.numel() * tensor.element_size() for tensor in state) / 1e6,
    )


def latency_of(backbone: Backbone, batch_size: int = 64, seconds: float = 1.0) -> Latency:
    """Times forward passes, with as many threads as torch has now.

    Args:
        backbone: On the CPU; set to eval mode and channels last.
        batch_size: Faces in the batch.
        seconds: Each of the two figures is the median of as many passes as fit, and of three at least, after one
            that is not counted.
    """
    backbone.eval().to(memory_format=torch.channels_last)
    side = backbone.input_spec.size_px
    faces = torch.zeros(batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    begin, used = time.perf_counter(), time.process_time()
    one_ms, batch_ms = _median_ms(backbone, faces[:1], seconds), _median_ms(backbone, faces, seconds)
    share = (time.process_time() - used) / (time.perf_counter() - begin) / torch.get_num_threads()
    return Latency(one_ms, batch_ms, batch_size, min(1.0, share))


@torch.inference_mode()
def _median_ms(backbone: Backbone, faces: Tensor, seconds: float) -> float:
    backbone(faces)
    times: list[float] = []
    while len(times) < 3 or sum(times) < 1000 * seconds:
        begin = time.perf_counter()
        backbone(faces)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)
