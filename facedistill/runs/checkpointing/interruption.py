"""Signals that ask a run to stop, and SLURM's command to start it again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from facedistill.errors import Interrupted

# Ctrl-C; the end of an allocation or a preemption; the early warning of `sbatch --signal=USR1@90`.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Records the first signal, so that the step can finish; a second one raises Interrupted.

    Attributes:
        number: The recorded signal, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, Any] = {}

    def start(self) -> None:
        """Replaces the handlers of `SIGNALS`."""
        self.number = None
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._receive)

    def stop(self) -> None:
        """Restores the handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise Interrupted(number)
        self.number = number


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 raise Interrupted, for the time in which there is no training step to finish."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def started_again() -> bool:
    """Whether SLURM or torchrun has started this process before, and starts it again after a preemption or a failure."""
    return any(
        os.environ.get(name, "0") != "0" for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    )


def started_by() -> str | None:
    """The job of SLURM or torchrun that started this process, the same when it starts it again; None of neither."""
    for launcher, name in (("SLURM", "SLURM_JOB_ID"), ("torchrun", "TORCHELASTIC_RUN_ID")):
        if job := os.environ.get(name):
            return f"{launcher} {job}"
    return None


def requeue() -> str:
    """Asks SLURM to queue this job again; the run then continues where it stopped.

    Returns:
        A sentence that says whether the job was queued.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    else:
        if not done.returncode:
            return f"SLURM job {job} is queued again and continues this run"
        reason = next(iter((done.stderr or done.stdout).strip().splitlines()), str(done.returncode))
    return f"SLURM job {job} could not be queued again ({reason}); submit it again to continue"
