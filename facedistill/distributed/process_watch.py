"""Sees to it that no process of a run waits for one that is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from facedistill.distributed.collectives import lost_a_process

_LIGHTNINGS = "child-process-observer"
_MAIN_PROCESS = "FACEDISTILL_MAIN_PROCESS"
_MOMENT_S = 10.0
EXIT_CODE = 1


def process_death_message(error: Exception) -> str | None:
    """What a user should read instead of the traceback of a process or a data worker that died; None of others."""
    message = " ".join(str(error).split())
    goes_on = "the last good checkpoint stays: give the same command again to continue from it"
    if "DataLoader worker" in message or isinstance(
        error, ConnectionError | EOFError
    ):  # while it handed over a batch
        reason = (
            message.split("is killed by signal: ")[-1].split(".")[0]
            if "killed by signal" in message
            else "exited"
        )
        return (
            f"data.num_workers: a worker that reads faces died ({reason}; often too little memory, then fewer workers "
            f"help); {goes_on}"
        )
    if lost_a_process(error):
        return f"another process of this run has died or does not answer ({message[:100]}); {goes_on}"
    return None


class ProcessWatch:
    """Watches, in a thread, the processes that this one started and the one that started it.

    A process that loses another usually finds out in the next exchange, and ends with a sentence. Where it does
    not, because it waits elsewhere or its peers never met, this ends it after `patience_s`. Lightning's own
    observer kills the first process within five seconds and without a message; it is switched off.

    Use it as a context around the fit.

    Args:
        launcher: Lightning's; its `procs` are the processes that this one starts, later. None where it starts none.
        say: Prints a sentence.
        patience_s: How long this process may find out by itself.
        poll_s: Time between two looks.
        leave: Ends this process with an exit code.
    """

    def __init__(
        self,
        launcher: object,
        say: Callable[[str], object],
        *,
        patience_s: float = 10.0,
        poll_s: float = 0.25,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.launcher = launcher
        self.say = say
        self.patience_s = patience_s
        self.poll_s = poll_s
        self.leave = leave
        self._parent = _parent()
        self._over = threading.Event()

    @property
    def _started(self) -> Sequence[subprocess.Popen]:
        return getattr(self.launcher, "procs", ())

    def __enter__(self) -> Self:
        os.environ[_MAIN_PROCESS] = str(os.getpid())  # for the processes that the launcher starts
        threading.Thread(target=self._watch, daemon=True, name="facedistill-process-watch").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is not None:
            self._end_children()

    def _watch(self) -> None:
        while not self._over.wait(self.poll_s):
            self._let_lightnings_observer_rest()
            dead = self._dead()
            if dead is None or self._over.wait(self.patience_s):
                continue
            self.say(
                f"error  {dead}; this process stops too; the last good checkpoint stays: give the same command again to "
                "continue from it"
            )
            sys.stderr.flush()
            self._end_children()
            self.leave(EXIT_CODE)
            return

    def _dead(self) -> str | None:
        if self._parent is not None and os.getppid() != self._parent:
            return "the process that started this one is gone"
        for rank, process in enumerate(self._started, start=1):
            if process.poll():
                return f"process {rank} of this run ended with code {process.returncode}"
        return None

    def _end_children(self) -> None:
        """Gives children a moment to end by themselves, because they lost this process or got a signal; then kills them."""
        until = time.monotonic() + _MOMENT_S
        for process in self._started:
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)

    def _let_lightnings_observer_rest(self) -> None:
        for thread in threading.enumerate():
            if thread.name == _LIGHTNINGS:
                thread._child_processes = []  # type: ignore[attr-defined]


def _parent() -> int | None:
    """The process that started this one as a part of its run: Lightning's launcher, or torchrun."""
    if "LOCAL_RANK" not in os.environ:
        return None
    parent = os.environ.get(_MAIN_PROCESS)
    return int(parent) if parent and int(parent) != os.getpid() else os.getppid()
