"""What the launcher needs of a cluster, and Ray's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from facedistill.errors import ConfigError, UserError, reason
from facedistill.sweeps.launchers.worker import Worker

_STORE_BYTES = 100 << 20  # of a local cluster; what is sent is at most 16 MB at a time
_PATIENCE_S = 10


class NodeLostError(Exception):
    """The machine of a worker is gone, or the worker was killed; the message says which."""


class WorkerError(Exception):
    """The worker cannot do what it was asked; the message is one line."""


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has in all."""

    cpus: float
    gpus: float


class RemoteWorker(Protocol):
    """A `Worker` on a machine of the cluster. All methods raise NodeLostError and WorkerError."""

    def begin(self, method: str, *arguments: Any) -> None:
        """Calls a method without waiting for it."""

    def result(self, method: str) -> Any:
        """What the method that was begun has returned; None while it runs."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Calls a method and waits for what it returns."""

    def close(self) -> None:
        """Ends the worker, and gives back what it had; never raises."""


class Cluster(Protocol):
    """Machines that run workers."""

    def nodes(self) -> list[Node]:
        """The machines that are up."""

    def start(self, folder: str | None, *, cpus: int, gpus: int) -> RemoteWorker:
        """Asks for a worker; it exists as soon as a machine has that much free."""


class RayCluster:
    """A Ray cluster; the workers are actors.

    Args:
        address: `auto`, `ray://host:10001`, `host:6379`, or None to start a cluster on this machine.
        runtime_env: Ray's description of what the workers need.

    Raises:
        ConfigError: If Ray is not installed or there is no such cluster.
    """

    def __init__(self, address: str | None, runtime_env: Mapping[str, Any]) -> None:
        try:
            self._ray: Any = import_module("ray")
            if str(address).startswith("ray://"):
                import_module("grpc")
        except ImportError as error:
            raise ConfigError(
                f"launcher=ray: {error.name} is not installed; pip install 'facedistill[ray]', or launcher=local"
            ) from error
        options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if runtime_env:
            options["runtime_env"] = dict(runtime_env)
        if address is None:
            for name in (
                "RAY_USAGE_STATS_ENABLED",
                "RAY_worker_niceness",
            ):  # the second is 15 unless it is set
                os.environ.setdefault(name, "0")
            options |= {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        else:
            _demand_reachable(address)
            options["address"] = address
        try:
            self._ray.init(**options)
        except Exception as error:  # ConnectionError, RuntimeError, and those of gRPC
            raise ConfigError(
                f"launcher.address={address or 'null'}: no Ray cluster answers ({reason(error)}); start one with `ray start "
                "--head`, or leave it out to start one on this machine"
            ) from error

    def nodes(self) -> list[Node]:
        """The machines that are up."""
        try:
            resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        except Exception as error:
            raise UserError(
                f"the Ray cluster does not answer any more ({reason(error)}); the same command continues the sweep"
            ) from error
        return [Node(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in resources]

    def start(self, folder: str | None, *, cpus: int, gpus: int) -> RemoteWorker:
        """Asks for an actor. Ray does not start it again by itself: the sweep does, once the old job has ended."""
        actor = self._ray.remote(Worker)
        # `run` takes one thread until the job ends; the others are for what is asked meanwhile.
        return _Actor(
            self._ray,
            actor.options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=4).remote(folder),
        )


class _Actor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._begun: dict[str, Any] = {}

    def begin(self, method: str, *arguments: Any) -> None:
        with self._errors():
            self._begun[method] = getattr(self._actor, method).remote(*arguments)

    def result(self, method: str) -> Any:
        reference = self._begun[method]
        with self._errors():
            return self._ray.get(reference) if self._ray.wait([reference], timeout=0)[0] else None

    def ask(self, method: str, *arguments: Any) -> Any:
        with self._errors():
            return self._ray.get(getattr(self._actor, method).remote(*arguments))

    def close(self) -> None:
        try:
            self._ray.kill(self._actor)
        except Exception:  # it is gone, or the whole cluster is
            return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        errors = self._ray.exceptions
        try:
            yield
        except errors.RayTaskError as error:
            raise WorkerError(_last_line(str(error))) from error
        except errors.RuntimeEnvSetupError as error:
            raise WorkerError(f"launcher.runtime_env cannot be set up ({_last_line(str(error))})") from error
        except errors.OutOfMemoryError as error:
            raise NodeLostError("its machine ran out of memory, and Ray ended the job") from error
        except (errors.RayError, ConnectionError) as error:
            if "creation task" in str(
                error
            ):  # such as a machine without facedistill, or with another version of it
                raise WorkerError(_last_line(str(error))) from error
            raise NodeLostError("its machine is gone, or its worker was killed") from error


def _demand_reachable(address: str) -> None:
    """Refuses an address that nothing listens on; Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(
            f"launcher.address={address}: expected auto, ray://host:10001 or host:6379, or null for a cluster on this "
            "machine"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise ConfigError(
            f"launcher.address={address}: nothing answers there ({reason(error)}); start the cluster, or open the port"
        ) from error


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip()
