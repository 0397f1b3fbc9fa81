"""Runs jobs on this machine, each in a fresh process tree of its own, as many as it has slots."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

from facedistill.errors import ConfigError
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.guard import start_guarded
from facedistill.system.trust import as_arguments


@dataclass
class _Process:
    job: Job
    process: subprocess.Popen[bytes]
    gpus: list[str]

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGQUIT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


@dataclass
class LocalLauncher:
    """Packs jobs onto the GPUs, or onto slots of the processor.

    Args:
        slots: Jobs at a time that want no GPU, each with its share of the cores; None: half the cores. Jobs that want
            GPUs run as soon as that many are free, and see only those.
        gpus: Ids of the GPUs; None: those that this process may use.
        jobs_per_gpu: Jobs at a time on each GPU. A student with small batches leaves most of a large GPU unused.
    """

    slots: int | None = None
    gpus: list[str] | None = None
    jobs_per_gpu: int = 1
    stops_with_sweep: bool = field(default=True, init=False)
    _running: list[_Process] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.gpus is None:
            self.gpus = gpu_ids()
        if self.slots is None:
            self.slots = max(1, (os.cpu_count() or 2) // 2)
        for key in ("slots", "jobs_per_gpu"):
            if getattr(self, key) < 1:
                raise ConfigError(f"launcher.{key}={getattr(self, key)}: must be > 0")

    @property
    def num_gpus(self) -> int:
        """How many there are."""
        return len(self.gpus or ())

    def check(self, job: Job) -> None:
        """Refuses a job that asks for more GPUs than there are."""
        if job.gpus > self.num_gpus:
            raise ConfigError(
                f"{job.label}: wants {job.gpus} GPUs and there are {self.num_gpus}; lower trainer.devices"
            )

    def has_free_slot(self, job: Job) -> bool:
        """Whether enough GPUs, or a slot, are free."""
        if job.gpus:
            return len(self._free()) >= job.gpus
        return sum(not one.gpus for one in self._alive()) < (self.slots or 1)

    def start(self, job: Job, log: Path) -> _Process:
        """Starts `facedistill train --config` under a guard that ends it if this process dies."""
        gpus = self._free()[: job.gpus]
        at_a_time = self.num_gpus * self.jobs_per_gpu if gpus else self.slots or 1
        threads = max(1, (os.cpu_count() or 1) // at_a_time)
        command = [sys.executable, "-m", "facedistill", "train", "--config", str(job.write())]
        command += as_arguments()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        running = _Process(job, start_guarded(command, log, environment), gpus)
        self._running.append(running)
        return running

    def _alive(self) -> list[_Process]:
        self._running = [one for one in self._running if one.poll() is None]
        return self._running

    def _free(self) -> list[str]:
        """GPUs that take one more job, those with the fewest jobs first."""
        jobs = Counter(gpu for one in self._alive() for gpu in one.gpus)
        return sorted(
            (gpu for gpu in self.gpus or () if jobs[gpu] < self.jobs_per_gpu), key=lambda gpu: jobs[gpu]
        )


def gpu_ids() -> list[str]:
    """Ids of the GPUs that this process may use, for `CUDA_VISIBLE_DEVICES`."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return shown.split(",")[:count] if shown else [str(number) for number in range(count)]
