"""Runs jobs on a Ray cluster: one worker per job, which starts it in a process tree of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facedistill.errors import ConfigError, UserError
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.base import LOST
from facedistill.sweeps.launchers.cluster import (
    Cluster,
    Node,
    NodeLostError,
    RayCluster,
    RemoteWorker,
    WorkerError,
)
from facedistill.sweeps.launchers.transfer import Transfer
from facedistill.system.trust import as_arguments

_INTERRUPTED = 130


@dataclass
class RayLauncher:
    """Sends jobs to a Ray cluster, each with the GPUs and cores that it asks for; Ray chooses the machine.

    Args:
        address: `auto`, `ray://host:10001` or `host:6379`; None starts a cluster on this machine.
        storage: `shared` if all machines see `runs_dir` and the folder in which the sweep is started under the same
            paths; `copy` sends a run to its machine and brings back what it writes.
        copy_every_s: Seconds between two times that changed files are brought back.
        cpus: Cores per process of a job, and its `OMP_NUM_THREADS`.
        gpus: GPUs of the largest machine; None: of those that are up. For clusters that add machines when asked.
        max_jobs: Sent to the cluster at a time; None: as many as fit on the machines that are up.
        restarts: How often a job whose machine is gone starts again.
        runtime_env: Ray's description of what the workers need, such as `{working_dir: .}`.
        cluster: Replaces Ray.

    Raises:
        ConfigError: If Ray is not installed or there is no such cluster.
    """

    address: str | None = None
    storage: Literal["shared", "copy"] = "shared"
    copy_every_s: float = 10.0
    cpus: int = 1
    gpus: int | None = None
    max_jobs: int | None = None
    restarts: int = 3
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    cluster: Cluster | None = None
    stops_with_sweep: bool = field(default=True, init=False)
    _running: list[_Sent] = field(default_factory=list, init=False)
    _lost: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.storage not in ("shared", "copy"):
            raise ConfigError(f"launcher.storage={self.storage}: expected shared or copy")
        self._cluster = self.cluster or RayCluster(self.address, self.runtime_env)

    @property
    def num_gpus(self) -> int:
        """GPUs of the largest machine."""
        return self.gpus if self.gpus is not None else int(max(self._most(0).gpus, 0))

    def check(self, job: Job) -> None:
        """Refuses a job that no machine can run."""
        if job.gpus > self.num_gpus:
            raise ConfigError(
                f"{job.label}: wants {job.gpus} GPUs and no machine of the cluster has more than {self.num_gpus}; "
                "lower trainer.devices, or set launcher.gpus if the cluster adds machines"
            )
        cpus, machine = self._size(job).cpus, self._most(job.gpus)
        if machine.gpus >= job.gpus and cpus > machine.cpus:
            raise ConfigError(
                f"{job.label}: wants {cpus:.0f} cores and no machine of the cluster that has its GPUs has more than "
                f"{machine.cpus:.0f}; lower launcher.cpus or trainer.devices"
            )
        if self.storage == "copy" and (job.config.get("data") or {}).get("source", {}).get("replay"):
            raise ConfigError(
                f"{job.label}: keeps rendered faces in its folder (data.source.replay), which launcher.storage=copy "
                "does not bring back; use launcher.storage=shared"
            )

    def has_free_slot(self, job: Job) -> bool:
        """Whether the running machines have enough free resources for the job, or `max_jobs` allows it."""
        self._running = [one for one in self._running if one.code is None]
        if self.max_jobs is not None:
            return len(self._running) < self.max_jobs
        sizes = [one.size for one in self._running] + [self._size(job)]
        return len(sizes) == 1 or fits(sizes, self._cluster.nodes())

    def start(self, job: Job, log: Path) -> _Sent:
        """Asks for a worker; the job starts as soon as there is one."""
        sent = _Sent(self, job, self._size(job), job.write().absolute(), log.absolute())
        self._running.append(sent)
        return sent

    def worker(self, size: Node) -> RemoteWorker:
        """Asks for a worker on any machine that has that much free."""
        folder = str(Path.cwd()) if self.storage == "shared" else None
        worker = self._cluster.start(folder, cpus=int(size.cpus), gpus=int(size.gpus))
        worker.begin("where")
        return worker

    def lose(self, job: Job) -> bool:
        """Counts a loss of the job; whether it may start again."""
        self._lost[job.id] = self._lost.get(job.id, 0) + 1
        return self._lost[job.id] <= self.restarts

    def _size(self, job: Job) -> Node:
        devices = job.config.trainer.get("devices", 1) if "trainer" in job.config else 1
        processes = job.gpus or (1 if devices in ("auto", -1, "-1") else int(devices))
        return Node(self.cpus * processes, job.gpus)

    def _most(self, gpus: int) -> Node:
        """The largest machine, by GPUs, or by cores among those with `gpus` GPUs."""
        nodes = self._cluster.nodes() or [Node(0, 0)]
        enough = [node for node in nodes if node.gpus >= gpus] if gpus else []
        if enough:
            return max(enough, key=lambda node: node.cpus)
        return Node(max(node.cpus for node in nodes), max(node.gpus for node in nodes))


class _Sent:
    """A job that was sent to the cluster: asked for, then running, then over."""

    def __init__(self, launcher: RayLauncher, job: Job, size: Node, config: Path, log: Path) -> None:
        self.launcher, self.job, self.size, self.config, self.log = launcher, job, size, config, log
        self.worker = launcher.worker(size)
        self._workers_lost = 0
        self.code: int | None = None
        self._transfer: Transfer | None = None
        self._has_begun = False
        self._brought_at = time.monotonic()
        self._held = ExitStack()

    def poll(self) -> int | None:
        if self.code is None:
            try:
                self._follow()
            except NodeLostError as error:
                again = self.launcher.lose(self.job)
                often = (
                    "" if again else f"; more often than launcher.restarts={self.launcher.restarts} allows"
                )
                self._note(f"{error}{often}")
                self._end(LOST if again else 1)
            except WorkerError as error:
                self._note(f"the worker failed: {error}")
                self._end(1)
            except UserError as error:
                self._note(str(error))
                self._end(1)
        return self.code

    def stop(self) -> None:
        if not self._has_begun:
            self._end(_INTERRUPTED)
        elif self.code is None:
            self.worker.begin("stop")

    def kill(self) -> None:
        if self.code is None:
            with suppress(NodeLostError, WorkerError):
                self.worker.ask("kill")
            self._end(_INTERRUPTED)

    def _follow(self) -> None:
        if not self._has_begun:
            if (where := self._where()) is not None:
                self._begin(*where)
            return
        over = self.worker.result("run")
        if self._transfer and (over or time.monotonic() - self._brought_at > self.launcher.copy_every_s):
            self._transfer.bring_back()
            self._brought_at = time.monotonic()
        if over:
            code, sentence = over
            if sentence:
                self._note(sentence)
            self._end(code)

    def _where(self) -> tuple[str, str] | None:
        """Machine and folder of the worker; None until it exists.

        For about a minute Ray may choose a machine that is gone. No run is lost then, only the time.
        """
        try:
            return self.worker.result("where")
        except NodeLostError:
            if self._workers_lost == self.launcher.restarts:
                raise
            self._workers_lost += 1
            self.worker.close()
            self.worker = self.launcher.worker(self.size)
            return None

    def _begin(self, machine: str, folder: str) -> None:
        self._note(f"runs on {machine}")
        job, log = str(self.config), str(self.log)
        if self.launcher.storage == "copy":
            self._held.enter_context(self.job.folder.held())
            if self.job.config.get("force"):
                self.job.folder.clear()  # the worker clears its own folder only
            self._transfer = Transfer(self.worker.ask, folder, self.job.folder, self.log)
            job, log = self._transfer.job(self.config), ""
            self._transfer.send()
        threads = self.launcher.cpus
        self.worker.begin("run", job, log, threads, as_arguments())
        self._has_begun = True
        self.job.config.force = False  # if its machine is lost from now on, it continues

    def _end(self, code: int) -> None:
        if self._transfer and code != LOST:
            with suppress(NodeLostError, WorkerError):
                self.worker.ask("close")
        self.worker.close()
        self._held.close()
        self.code = code

    def _note(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def fits(sizes: Sequence[Node], nodes: Sequence[Node]) -> bool:
    """Whether jobs of these sizes fit on the machines at once, the largest placed first.

    >>> fits([Node(1, 2), Node(1, 1)], [Node(4, 2), Node(4, 1)]), fits([Node(1, 2)], [Node(4, 1), Node(4, 1)])
    (True, False)
    """
    free = list(nodes)
    for size in sorted(sizes, key=lambda one: (one.gpus, one.cpus), reverse=True):
        roomy = [one for one in free if one.cpus >= size.cpus and one.gpus >= size.gpus]
        if not roomy:
            return False
        tight = min(roomy, key=lambda one: (one.gpus, one.cpus))
        free[free.index(tight)] = Node(tight.cpus - size.cpus, tight.gpus - size.gpus)
    return True
