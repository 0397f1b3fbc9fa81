"""Runs jobs on a SLURM cluster through submitit: one sbatch per job, one task per GPU."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from facedistill.errors import ConfigError
from facedistill.reporting.record import read_object
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.task import run_task
from facedistill.system.files import write_atomically
from facedistill.system.trust import as_arguments

_WARNING_S = 90


@dataclass
class _Queued:
    handle: Any

    def poll(self) -> int | None:
        if not self.handle.done():
            return None
        return 0 if self.handle.exception() is None else 1

    def stop(self) -> None:
        self.handle.cancel(check=False)

    def kill(self) -> None:
        self.stop()


@dataclass
class SubmititLauncher:
    """Submits jobs; they outlive the sweep, and the same sweep given again follows them instead of repeating them.

    Args:
        cluster: `slurm`, or `local` for submitit's own executor on this machine.
        partition: SLURM partition; None: the cluster's default.
        time_min: Limit of a job, minutes; SIGTERM comes 90 s before.
        nodes: Nodes of a job.
        gpus: GPUs per node, each with a task of its own, started by srun; 0: one task.
        cpus: Cores per task.
        memory_gb: Memory per node, GB; None: the cluster's default.
        max_jobs: In the queue at a time.
        setup: Shell lines before a job.
        options: Further sbatch options by name.

    Raises:
        ConfigError: If submitit is not installed, or there is no sbatch.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    time_min: int = 1440
    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    memory_gb: float | None = None
    max_jobs: int = 100
    setup: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    stops_with_sweep: bool = field(default=False, init=False)
    _queued: list[_Queued] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        try:
            self._submitit: Any = import_module("submitit")
        except ImportError as error:
            raise ConfigError(
                "launcher=submitit: submitit is not installed; pip install 'facedistill[sweep]', or launcher=local"
            ) from error
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError(
                "launcher=submitit: there is no sbatch or srun here; start the sweep where jobs can be submitted, or "
                "use launcher=local"
            )

    @property
    def num_gpus(self) -> int:
        """GPUs of a job on each of its nodes."""
        return self.gpus

    def check(self, job: Job) -> None:
        """Refuses a job that asks for more GPUs than a node of it gets."""
        if job.gpus > self.gpus:
            raise ConfigError(
                f"{job.label}: wants {job.gpus} GPUs per node and launcher.gpus={self.gpus}; make them equal"
            )

    def has_free_slot(self, job: Job) -> bool:
        """Whether the queue may take another job."""
        self._queued = [one for one in self._queued if one.poll() is None]
        return len(self._queued) < self.max_jobs

    def start(self, job: Job, log: Path) -> _Queued:
        """Submits the job, or follows it where an earlier sweep has submitted it already."""
        config = job.write()
        note = config.with_suffix(".submitted")
        executor = self._submitit.AutoExecutor(
            folder=(log.parent / "submitit").absolute(), cluster=self.cluster
        )
        queued = self._earlier(executor, note)
        if queued is None:
            executor.update_parameters(**self._parameters(job))
            handle = executor.submit(
                run_task, sys.executable, str(config.absolute()), str(log.absolute()), as_arguments()
            )
            write_atomically(note, json.dumps({"job": handle.job_id, "cluster": self.cluster}) + "\n")
            queued = _Queued(handle)
        self._queued.append(queued)
        return queued

    def _earlier(self, executor: Any, note: Path) -> _Queued | None:
        submitted = read_object(note)
        if submitted.get("cluster") != self.cluster:
            return None
        tasks = list(range(self.nodes * max(1, self.gpus)))
        handle = executor._executor.job_class(folder=executor.folder, job_id=submitted["job"], tasks=tasks)
        return None if handle.done() else _Queued(handle)

    def _parameters(self, job: Job) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "name": job.id, "timeout_min": self.time_min, "nodes": self.nodes, "tasks_per_node": max(1, self.gpus),
            "cpus_per_task": self.cpus, "gpus_per_node": self.gpus or None, "mem_gb": self.memory_gb,
            "slurm_partition": self.partition, "slurm_setup": list(self.setup) or None,
            # submitit's own signal requeues what it has pickled; ours lets the run save.
            "slurm_additional_parameters": {"signal": f"TERM@{_WARNING_S}", **dict(self.options)},
        }  # fmt: skip
        return {name: value for name, value in parameters.items() if value is not None}
