"""Costs of a network: parameters, multiply-accumulates, bytes, and latency on this CPU."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
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
    """Milliseconds of one forward pass; with one thread of processor time, which other work on the machine
    changes less than the time that passes.

    Attributes:
        one_ms: Of a single face, median.
        one_p95_ms: The same, 95th percentile.
        batch_ms: Of a batch, median.
        batch_size: Faces in that batch.
        share: Fraction of its threads' time that this process got; well below 1 if other processes kept the
            processor busy or the network is too small for all threads.
    """

    one_ms: float
    one_p95_ms: float
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


def latency_of(
    run: Callable[[Tensor], object], faces: Tensor, threads: int, seconds: float = 1.0, fewest: int = 3
) -> Latency:
    """Times forward passes of the first face alone, and of all faces.

    Args:
        run: Embeds a batch.
        faces: (N, ...) images as `run` takes them.
        threads: That `run` uses.
        seconds: Each batch size is timed for so long, after one pass that is not counted.
        fewest: Passes of each batch size, however long they take.
    """
    begin, used = time.perf_counter(), time.process_time()
    clock = time.process_time if threads == 1 else time.perf_counter
    one, batch = (_times_ms(run, part, clock, seconds, fewest) for part in (faces[:1], faces))
    share = (time.process_time() - used) / (time.perf_counter() - begin) / threads
    return Latency(
        statistics.median(one), _percentile(one, 0.95), statistics.median(batch), len(faces), min(1.0, share)
    )


def _times_ms(
    run: Callable[[Tensor], object], faces: Tensor, clock: Callable[[], float], seconds: float, fewest: int
) -> list[float]:
    run(faces)
    times: list[float] = []
    while len(times) < fewest or sum(times) < 1000 * seconds:
        begin = clock()
        run(faces)
        times.append(1000 * (clock() - begin))
    return times


def _percentile(values: Sequence[float], part: float) -> float:
    """The least value that `part` of the values do not exceed.

    >>> _percentile([5.0, 1.0, 2.0], 0.95)
    5.0
    """
    return sorted(values)[math.ceil(part * len(values)) - 1]
