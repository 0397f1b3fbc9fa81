"""One run of many, checked before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facedistill.assembly import run_folder
from facedistill.config import compose, validate
from facedistill.run_folder import RunFolder


@dataclass(frozen=True)
class Job:
    """What `facedistill train` is started with, and where its run will lie.

    Attributes:
        label: How messages call it.
        overrides: Plain overrides: nothing is left to be swept over.
        folder: `runs/<name>-<identity>`; equal jobs have equal folders.
        gpus: GPUs it wants to itself; 0 on a CPU.
    """

    label: str
    overrides: tuple[str, ...]
    folder: RunFolder
    gpus: int = 0

    @property
    def id(self) -> str:
        """Name of the run's folder."""
        return self.folder.path.name


def plan_job(label: str, overrides: Sequence[str], *, num_gpus: int = 0) -> Job:
    """Composes and validates one job without loading anything.

    Args:
        label: How messages call it.
        overrides: For `facedistill train`.
        num_gpus: How many the machine has.

    Raises:
        UserError: If the configuration is refused, or wants more GPUs than there are.
    """
    config = compose("train", overrides)
    validate(config)
    trainer = config.trainer
    wanted = 0
    if num_gpus and trainer.accelerator in ("auto", "gpu", "cuda"):
        devices = trainer.get("devices", 1)
        wanted = num_gpus if devices in ("auto", -1, "-1") else int(devices)
    return Job(label, tuple(overrides), run_folder(config), wanted)
