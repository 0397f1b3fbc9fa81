"""Job files of a sweep for SkyPilot and Kubernetes: rendered by `train -m … --dry`, started by their own tools."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from facedistill.errors import ConfigError

_RUNS = "/runs"
_SETUP = ("pip install 'facedistill[ray,sweep]' 'ray[default]'",)


@dataclass
class SkyPilotFile:
    """A task of SkyPilot that runs the sweep: on one machine, or through Ray on several.

    Args:
        bucket: Where the runs are kept: `s3://ours`, `gs://ours`, or a name that SkyPilot creates.
        nodes: Machines.
        gpus: GPUs per machine; 0: none.
        accelerator: Their type, in SkyPilot's words.
        resources: Further resources by name, such as `{use_spot: true, cpus: 16+}`.
        mounts: Further files and buckets, path on the machine: source.
        workdir: Folder that is copied to the machines, such as `.`; None: none.
        setup: Shell lines that prepare a machine.

    Raises:
        ConfigError: If no bucket is named.
    """

    bucket: str | None = None
    nodes: int = 1
    gpus: int = 1
    accelerator: str = "H100"
    resources: Mapping[str, Any] = field(default_factory=dict)
    mounts: Mapping[str, Any] = field(default_factory=dict)
    workdir: str | None = None
    setup: Sequence[str] = _SETUP
    name: ClassVar[str] = "skypilot"
    tool: ClassVar[str] = "`sky jobs launch`"
    takes_search: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ConfigError(
                "launcher.bucket=null: name the bucket that keeps the runs, launcher.bucket=s3://ours or gs://ours"
            )

    def render(self, name: str, arguments: Sequence[str], jobs: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The task; `sky jobs launch` starts it again after a preemption, and the runs continue from the bucket.

        Args:
            name: Of the sweep.
            arguments: Its overrides, without those of `launcher` and `runs_dir`.
            jobs: The overrides of every job, likewise; the task expands them itself.
        """
        command = ["facedistill", "train", "-m", *arguments, f"runs_dir={_RUNS}"]
        lines = [shlex.join(command)]
        if self.nodes > 1:  # the bucket is written by the first machine only, so that no two write one file
            ray = ["launcher=ray", "launcher.address=auto", "launcher.storage=copy"]
            lines = [
                "~/sky_templates/ray/start_cluster",
                'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then',
                f"  {shlex.join([*command, *ray])}",
                "fi",
            ]
        bucket = str(self.bucket)
        place = {"source": bucket} if "://" in bucket else {"name": bucket}
        task: dict[str, Any] = {
            "name": _dns(name),
            "num_nodes": self.nodes,
            "resources": {
                **({"accelerators": f"{self.accelerator}:{self.gpus}"} if self.gpus else {}),
                **dict(self.resources),
            },
            "workdir": self.workdir,
            # Unlike MOUNT it can append and rename, which checkpoints and curves need.
            "file_mounts": {_RUNS: {**place, "mode": "MOUNT_CACHED"}, **dict(self.mounts)},
            "setup": "\n".join(self.setup) + "\n",
            "run": "\n".join(["set -e", *lines]) + "\n",
        }
        return {key: value for key, value in task.items() if value not in (None, {})}


@dataclass
class KubernetesFile:
    """An indexed Job of Kubernetes: one pod per run, which continues after it was evicted.

    Args:
        image: Container image with facedistill.
        claim: PersistentVolumeClaim that keeps the runs; ReadWriteMany where pods run on several machines.
        namespace: None: that of kubectl.
        gpus: GPUs of a pod; 0: none.
        cpus: Cores of a pod.
        memory_gb: Memory of a pod, GB; None: no limit.
        max_jobs: Pods at a time.
        restarts: How often a pod that failed is replaced; evictions are not counted.

    Raises:
        ConfigError: If no image or no claim is named.
    """

    image: str | None = None
    claim: str | None = None
    namespace: str | None = None
    gpus: int = 1
    cpus: int = 8
    memory_gb: float | None = None
    max_jobs: int = 8
    restarts: int = 3
    name: ClassVar[str] = "kubernetes"
    tool: ClassVar[str] = "`kubectl apply -f`"
    takes_search: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key, what in (("image", "the container image"), ("claim", "the PersistentVolumeClaim for runs")):
            if not getattr(self, key):
                raise ConfigError(f"launcher.{key}=null: name {what}, launcher.{key}=…")

    def render(self, name: str, arguments: Sequence[str], jobs: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The Job; a run that refuses its configuration (exit code 2) is not tried again.

        Args:
            name: Of the sweep; the wandb group of all runs.
            arguments: Its overrides, without those of `launcher` and `runs_dir`; not needed.
            jobs: The overrides of every job, likewise.
        """
        shared = [f"runs_dir={_RUNS}", f"logger.wandb.group={name}"]
        cases = [
            f"{index}) exec {shlex.join(['facedistill', 'train', *overrides, *shared])} ;;"
            for index, overrides in enumerate(jobs)
        ]
        script = "\n".join(["case $JOB_COMPLETION_INDEX in", *cases, "esac"]).replace("$(", "$$(")
        size: dict[str, Any] = {"cpu": self.cpus}
        if self.memory_gb:
            size["memory"] = f"{self.memory_gb:g}G"
        if self.gpus:
            size["nvidia.com/gpu"] = self.gpus
        container = {
            "name": "train", "image": self.image, "command": ["bash", "-c", script], "resources": {"requests": size, "limits": dict(size)},
            "volumeMounts": [{"name": "runs", "mountPath": _RUNS}, {"name": "shm", "mountPath": "/dev/shm"}],
        }  # fmt: skip
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,  # a run saves when it gets SIGTERM
            "containers": [container],
            "volumes": [
                {"name": "runs", "persistentVolumeClaim": {"claimName": self.claim}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }
        rules = [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [2]}},
        ]
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": _dns(name), **namespace},
            "spec": {
                "completionMode": "Indexed", "completions": len(jobs), "parallelism": min(self.max_jobs, len(jobs)),
                "backoffLimitPerIndex": self.restarts, "podFailurePolicy": {"rules": rules}, "template": {"spec": pod},
            },
        }  # fmt: skip


def _dns(name: str) -> str:
    """A name that Kubernetes and clouds accept.

    >>> _dns("Pocket_table-1a2b3c4d")
    'pocket-table-1a2b3c4d'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[-50:].strip("-")
