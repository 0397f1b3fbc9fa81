"""Signals that ask a run to stop, and SLURM's command to start it again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from facedistill.errors import ConfigError, Interrupted

# Ctrl-C; the end of an allocation or a preemption; the early warning of `sbatch --signal=USR1@90`.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Records the first signal, so that the step can finish; a second one raises Interrupted.

    Attributes:
        number: The recorded signal, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._says = False
        self._handlers: dict[int, Any] = {}

    def start(self, *, says: bool = True) -> None:
        """Replaces the handlers of `SIGNALS`; `says`: the first signal is answered on standard error."""
        self.number, self._says = None, says
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
        if self._says:  # not by a console, which may be writing at this moment
            with suppress(OSError):  # nobody reads it any more
                os.write(2, b"\nstopping after this step; a second signal stops at once\n")


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


def started_by() -> str | None:
    """The start by SLURM, torchrun or both, the same when they start this process again; None of neither."""
    return ", ".join(start for start, _ in _starts()) or None


def started_again(by: str | None) -> bool:
    """Whether `by`, an earlier `started_by()`, is the start that has started this process again, after a preemption or a failure."""
    known = (by or "").split(", ")
    return any(start in known and os.environ.get(count, "0") != "0" for start, count in _starts())


def refuse_nameless_restarts() -> None:
    """Refuses restarts by torchrun that the processes of several machines cannot tell from those of another start.

    Raises:
        ConfigError: If torchrun may restart them and has no --rdzv-id.
    """
    own = os.environ.get
    if (
        own("TORCHELASTIC_RUN_ID") == "none"
        and own("GROUP_WORLD_SIZE") != "1"
        and own("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    ):
        raise ConfigError(
            "force=true: torchrun --max-restarts on several machines needs an --rdzv-id, another one for each start, so that "
            "a restart continues instead of starting over"
        )


def _starts() -> Iterator[tuple[str, str]]:
    """The name of each launcher's start, and the variable that counts its repetitions."""
    if job := os.environ.get("SLURM_JOB_ID"):
        yield f"SLURM {job}", "SLURM_RESTART_COUNT"
    if job := os.environ.get("TORCHELASTIC_RUN_ID"):
        # Not every torchrun has an id of its own; one on a single machine has a folder, `<folder>/attempt_1/<rank>/error.json`.
        folder = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", "")).parent.parent.parent.name
        alone = os.environ.get("GROUP_WORLD_SIZE") == "1"
        yield f"torchrun {(alone and folder) or job}", "TORCHELASTIC_RESTART_COUNT"


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
