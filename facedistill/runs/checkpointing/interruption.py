"""Signals that ask a run to stop, and SLURM's way to start it again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from facedistill.errors import Interrupted

# Ctrl-C; the end of an allocation or a preemption; what `sbatch --signal=USR1@90` sends before the end.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Remembers the first signal, so that the step can finish; the second one stops at once.

    Attributes:
        number: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """From now on signals are remembered instead of obeyed."""
        self.number = None
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._receive)

    def listen_no_more(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise Interrupted(number)
        self.number = number


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 what Ctrl-C is, for the time in which there is no step to finish."""
    before = {number: signal.signal(number, _stop_at_once) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def requeue() -> str:
    """Asks SLURM to queue this job again; the run goes on from its checkpoint when the job starts.

    Returns:
        A sentence that says whether it was queued.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"SLURM job {job} could not be queued again ({error}); submit it again to continue"
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        return f"SLURM job {job} could not be queued again ({reason[0] if reason else done.returncode}); submit it again to continue"
    return f"SLURM job {job} is queued again and continues from this checkpoint"
