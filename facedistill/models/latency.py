"""What a student network costs: params, macs, weights, and its time on this CPU."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from facedistill.models.backbones import Backbone
from facedistill.models.cost import count_macs, count_params


@dataclass(frozen=True)
class Size:
    """What can be counted.

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
        batch_ms: Of a whole batch.
        batch_size: Faces in that batch.
        share: Part of its threads' time that this process got, [0, 1]: well below 1, and others kept the processor
            busy, or the network too small to feed all threads.
    """

    one_ms: float
    batch_ms: float
    batch_size: int
    share: float


def size_of(backbone: Backbone) -> Size:
    """Counts; the network is left as it was."""
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
