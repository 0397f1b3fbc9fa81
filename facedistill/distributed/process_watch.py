"""Ends a process of a run when another process has died, so that none waits forever."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from facedistill.distributed.collectives import lost_a_process
from facedistill.system.messages import print_message

_LIGHTNING_OBSERVER = "child-process-observer"
_MAIN_PROCESS = "FACEDISTILL_MAIN_PROCESS"
_GRACE_S = 10.0
_CONTINUE = "the last good checkpoint stays: give the same command again to continue from it"
EXIT_CODE = 1


def process_death_message(error: Exception) -> str | None:
    """The message for the death of another process or of a data worker; None for any other error."""
    text = " ".join(str(error).split())
    # A worker that dies while it sends a batch causes a ConnectionError or EOFError.
    if "DataLoader worker" in text or isinstance(error, ConnectionError | EOFError):
        _, killed, by = text.partition("is killed by signal: ")
        reason = by.split(".")[0] if killed else "exited"
        return (
            f"data.num_workers: a worker that reads faces died ({reason}; often too little memory, then fewer workers "
            f"help); {_CONTINUE}"
        )
    if lost_a_process(error):
        return f"another process of this run has died or does not answer ({text[:100]}); {_CONTINUE}"
    return None


class ProcessWatch:
    """Watches, in a thread, the processes that this one started and the one that started it.

    A process usually notices the death of another one in the next collective, and raises. If it does not, because it
    waits elsewhere or the process group was never complete, the watch ends it after `patience_s`. Lightning's own
    observer, which kills the main process within five seconds and without a message, is disabled.

    Use it as a context around the fit.

    Args:
        launcher: Lightning's; its `procs` are the processes that this one starts later. None if it starts none.
        patience_s: Time for this process to notice by itself.
        poll_s: Time between two checks.
        leave: Ends this process with an exit code.
    """

    def __init__(
        self,
        launcher: object,
        *,
        patience_s: float = 10.0,
        poll_s: float = 0.25,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.launcher = launcher
        self.patience_s = patience_s
        self.poll_s = poll_s
        self.leave = leave
        self._parent = _parent()
        self._ended = threading.Event()

    @property
    def _children(self) -> Sequence[subprocess.Popen]:
        return getattr(self.launcher, "procs", ())

    def __enter__(self) -> Self:
        os.environ[_MAIN_PROCESS] = str(os.getpid())  # for the processes that the launcher starts
        threading.Thread(target=self._watch, daemon=True, name="facedistill-process-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if kind is not None:
            self._end_children()

    def _watch(self) -> None:
        while not self._ended.wait(self.poll_s):
            _disable_lightning_observer()
            death = self._death()
            if death is None or self._ended.wait(self.patience_s):
                continue
            print_message(f"error  {death}; this process stops too; {_CONTINUE}")
            self._end_children()
            self.leave(EXIT_CODE)
            return

    def _death(self) -> str | None:
        if self._parent is not None and os.getppid() != self._parent:
            return "the process that started this one has ended"
        for rank, process in enumerate(self._children, start=1):
            if process.poll():
                return f"process {rank} of this run ended with code {process.returncode}"
        return None

    def _end_children(self) -> None:
        """Waits for the children, which notice the end of this process or have received the same signal, then kills."""
        until = time.monotonic() + _GRACE_S
        for process in self._children:
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def _disable_lightning_observer() -> None:
    for thread in threading.enumerate():
        if thread.name == _LIGHTNING_OBSERVER:
            thread._child_processes = []  # type: ignore[attr-defined]


def _parent() -> int | None:
    """The process that started this one as a part of its run: Lightning's launcher, or torchrun."""
    if "LOCAL_RANK" not in os.environ:
        return None
    main = int(os.environ.get(_MAIN_PROCESS) or os.getpid())
    return main if main != os.getpid() else os.getppid()
