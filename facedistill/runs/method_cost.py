"""Measures time and memory of one step of a method's loss on this CPU, without the networks."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from facedistill.methods.base import DistillationMethod
from facedistill.runs.assembly import build_method
from facedistill.system.machine import cpu_name
from facedistill.system.trust import admit
from facedistill.types import FaceBatch, InputSpec

NUM_IMAGES = 100_000  # size of the training set, for methods with state per image


@dataclass(frozen=True)
class Sizes:
    """Sizes of a measurement.

    Attributes:
        images: N, images per step, four of each identity.
        dim: D, width of student and teacher.
        identities: K.
        steps: Timed steps, after a warm-up step.
    """

    images: int = 512
    dim: int = 512
    identities: int = 85_742
    steps: int = 3


@dataclass(frozen=True)
class Cost:
    """A measurement.

    Attributes:
        step_ms: Median milliseconds of loss and backward pass; with one thread of processor time, which other work on
            the machine changes less.
        peak_mib: Peak memory of one step in MiB, without parameters and buffers, with gradients of parameters.
    """

    step_ms: float
    peak_mib: float


class GivenNetwork(nn.Module):
    """Returns fixed embeddings and a fixed 64 x 7 x 7 feature map for any images.

    Replaces student, peer and teacher, so that only the loss is measured.
    """

    input_spec = InputSpec(size_px=8)

    def __init__(self, num_images: int, embedding_dim: int, seed: int = 0) -> None:
        super().__init__()
        seeded = torch.Generator().manual_seed(seed)
        self.embedding_dim = embedding_dim
        self.embeddings = nn.Parameter(torch.randn(num_images, embedding_dim, generator=seeded))
        self.maps = nn.Parameter(torch.randn(num_images, 64, 7, 7, generator=seeded))
        self.last_map = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(N, D) embeddings; forward hooks on `last_map` receive the feature map."""
        self.last_map(self.maps[: len(images)])
        return self.embeddings[: len(images)]


class GivenTeacher(nn.Module):
    """A `GivenNetwork` with the interface of `FrozenTeacher`."""

    input_spec = InputSpec(size_px=8)
    precision = "fp32"
    network: nn.Module

    def __init__(self, num_images: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        network = GivenNetwork(num_images, embedding_dim, seed=1).requires_grad_(False).eval()
        object.__setattr__(self, "network", network)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, D) embeddings without gradient."""
        return self.network(images)


def measure(config: DictConfig, sizes: Sizes) -> Cost:
    """Measures time and peak memory of one step of `config.method`.

    Args:
        config: Composed training configuration; its backbone is replaced.
        sizes: N, D, K and the number of steps.
    """
    method, batch = _prepare(config, sizes)
    _step(method, batch)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(sizes.steps):
        begin = clock()
        _step(method, batch)
        times.append(1000 * (clock() - begin))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no message of torch's profiler about missing GPUs
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        _step(method, batch)
    return Cost(step_ms=statistics.median(times), peak_mib=_peak_bytes(record) / 2**20)


def processor() -> str:
    """Name of the processor and the number of threads in use."""
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {'processor time of 1 thread' if threads == 1 else f'{threads} threads'}"


def _prepare(config: DictConfig, sizes: Sizes) -> tuple[DistillationMethod, FaceBatch]:
    """The method and one batch for it: four images of each identity, all different images of the set."""
    admit([f"{__name__}.GivenNetwork"])
    config.backbone = {
        "_target_": f"{__name__}.GivenNetwork",
        "num_images": sizes.images,
        "embedding_dim": sizes.dim,
        "seed": 2,
    }
    seeded = torch.Generator().manual_seed(3)
    method = build_method(
        config,
        student=GivenNetwork(sizes.images, sizes.dim),
        teacher=GivenTeacher(sizes.images, sizes.dim),
        num_identities=sizes.identities,
        num_images=NUM_IMAGES,
        centers=lambda: nn.functional.normalize(torch.randn(sizes.identities, sizes.dim, generator=seeded)),
    )
    positions = torch.arange(sizes.images)
    batch = FaceBatch(
        images=torch.zeros(sizes.images, 3, 8, 8),
        labels=positions // 4 % sizes.identities,
        indices=positions,
        balanced=None,
    )
    return method.train(), batch


def _step(method: DistillationMethod, batch: FaceBatch) -> None:
    method.distill(batch).loss.backward()
    for parameter in method.parameters():
        parameter.grad = None


def _peak_bytes(record: Any) -> int:
    """Largest running sum of allocations minus frees, in order of time."""
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
