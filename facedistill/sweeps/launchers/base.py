"""Interface of the launchers."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from facedistill.sweeps.job import Job

LOST: Final = -1
"""Instead of an exit code: the machine of the job is gone, and the job is to start again and continue its run."""


class Running(Protocol):
    """A started job."""

    def poll(self) -> int | None:
        """The exit code, or LOST; None while it runs."""

    def stop(self) -> None:
        """Asks it to finish its step, save and end; does not wait."""

    def kill(self) -> None:
        """Kills it."""


class Launcher(Protocol):
    """Where jobs run; a class of conf/launcher.

    Attributes:
        num_gpus: GPUs that one job can have.
        stops_with_sweep: Whether jobs end when the sweep does; else they stay in a queue and the next sweep finds them.
    """

    stops_with_sweep: bool

    @property
    def num_gpus(self) -> int:
        """GPUs that one job can have."""

    def check(self, job: Job) -> None:
        """Raises ConfigError for a job that can never run here."""

    def has_free_slot(self, job: Job) -> bool:
        """Whether the job could start now."""

    def start(self, job: Job, log: Path) -> Running:
        """Starts it from its written configuration; what it prints is appended to `log`."""
