"""A cluster without Ray: its workers are objects of this process, which start real processes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from facedistill.sweeps.launchers.cluster import Node, NodeLostError
from facedistill.sweeps.launchers.worker import Worker


class FakeWorker:
    """Answers from threads; `lose` cuts it off as the end of its machine would."""

    def __init__(self, folder: str | None) -> None:
        self.worker = Worker(folder)
        self.is_lost = False
        self._results: dict[str, Any] = {}

    def begin(self, method: str, *arguments: Any) -> None:
        def call() -> None:
            self._results[method] = getattr(self.worker, method)(*arguments)

        threading.Thread(target=call, daemon=True).start()

    def result(self, method: str) -> Any:
        self._demand_alive()
        return self._results.get(method)

    def ask(self, method: str, *arguments: Any) -> Any:
        self._demand_alive()
        return getattr(self.worker, method)(*arguments)

    def close(self) -> None:
        if self.worker._process is not None:
            self.worker._process.stdin.close()

    def lose(self) -> None:
        """Kills the guard, as Ray does with the children of a worker."""
        self.worker._process.kill()
        self.is_lost = True

    def _demand_alive(self) -> None:
        if self.is_lost:
            raise NodeLostError("gone")


@dataclass
class FakeCluster:
    """Machines by size."""

    machines: list[Node]
    asked: list[tuple[int, int]] = field(default_factory=list)
    workers: list[FakeWorker] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        return self.machines

    def start(self, folder: str | None, *, cpus: int, gpus: int) -> FakeWorker:
        self.asked.append((cpus, gpus))
        self.workers.append(FakeWorker(folder))
        return self.workers[-1]
