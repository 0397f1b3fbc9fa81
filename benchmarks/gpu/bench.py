"""What a comparison runs with, and how it measures time and memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import ekd_loss
from benchmarks.gpu.results import render

QUIET = [
    "logger=csv", "evaluation=none", "evaluation.validation_pairs.identities=20", "data.validation.faces=16",
]  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What a comparison runs with.

    Attributes:
        into: Folder of the results.
        seconds: Of one measurement.
        miniature: Whether networks and sizes are small.
        name: Of the comparison.
    """

    into: Path
    seconds: float
    miniature: bool
    name: str = ""

    @property
    def device(self) -> torch.device:
        """The GPU, or the CPU where there is none."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def record(self, case: str, **figures: Any) -> None:
        """Writes a measurement, and the table again."""
        torch_version = torch.__version__.split("+")[0]
        row = {
            "comparison": self.name, "case": case, "device": _device_name(), "torch": torch_version, **figures,
        }  # fmt: skip
        with (self.into / "gpu.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        render(self.into)

    def synthdistill(self, *extra: str) -> list[str]:
        """Overrides of SynthDistill as fast as it is known to run on this device."""
        device = "gpu" if self.device.type == "cuda" else "cpu"
        if self.miniature:
            small = ["backbone=tinyfar_c", "data.batch_size=4", "generator.network.exit=64"]
            return [*QUIET, *small, "generator.network.compile=false", f"strategy={device}", *extra]
        return [
            *QUIET, "backbone=mobilenetv2", "optimizer=adamw", "data.batch_size=256", "data.num_workers=4",
            "generator.network.micro_batch=256", "teacher.precision=bf16", "teacher.compile=auto", f"strategy={device}", *extra,
        ]  # fmt: skip


def measured(bench: Bench, case: str, size: int, work: Callable[[], object]) -> None:
    """Records time and peak memory of `work` at a size; no memory left is a result as well."""
    try:
        ms = 1e3 * seconds_of(work, bench)
        with peak_memory(bench.device) as peak:
            work()
        bench.record(case, size=size, ms=ms, mib=peak[0] if peak else ekd_loss.peak_mib(work))
    except torch.OutOfMemoryError:
        bench.record(case, size=size, problem="out of memory")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """A list that gets the most MiB that a GPU held inside, beyond what it held before; empty on a CPU."""
    found: list[float] = []
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if device.type == "cuda":
        torch.cuda.synchronize()
        found.append((torch.cuda.max_memory_allocated() - before) / 2**20)


def seconds_of(work: Callable[[], object], bench: Bench) -> float:
    """Mean seconds of one call, over `bench.seconds` and three calls at least, after two that are not counted."""
    work()
    work()
    _wait()
    began, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - began < bench.seconds:
        work()
        calls += 1
        if calls % 8 == 0:
            _wait()  # so that the queue, and with it the overrun, stays short
    _wait()
    return (time.perf_counter() - began) / calls


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
