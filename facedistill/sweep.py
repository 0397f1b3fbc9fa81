"""`facedistill train -m`: every combination of the listed values, each in a process tree of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from facedistill.config import compose
from facedistill.errors import ConfigError, UserError
from facedistill.launch.grid import expand
from facedistill.launch.job import Job, plan_job
from facedistill.launch.local import execute, gpu_ids


def sweep(arguments: Sequence[str]) -> int:
    """Plans all jobs, names those that are refused, runs the others, and skips what is finished.

    An interrupted sweep goes on when it is given again: finished runs are left alone and started ones continued.

    Args:
        arguments: Overrides, some with several values (`seed=1,2,3`).

    Returns:
        0, or 1 where a job was refused or failed.

    Raises:
        UserError: If nothing can be run at all.
    """
    if "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ:
        raise ConfigError(
            "-m inside torchrun or srun would start the sweep once in each process; start it by itself, and "
            "every job starts its own processes"
        )
    gpus = gpu_ids()
    jobs, refused = _plan(expand(arguments), len(gpus))
    waiting = [job for job in jobs if not job.folder.is_finished]
    _say(
        f"{len(jobs)} jobs, {len(jobs) - len(waiting)} finished already, {len(refused)} refused\n"
        + "\n".join(refused)
    )
    if not jobs:
        raise UserError("no job of the sweep can run")
    settings = compose("train", jobs[0].overrides)
    slots = settings.launcher.slots or max(1, (os.cpu_count() or 2) // 2)
    failed = execute(waiting, slots=slots, logs=Path(settings.runs_dir) / "logs", gpus=gpus)
    if failed or refused:
        _say("\n".join([f"{len(failed)} job(s) failed, {len(refused)} refused", *failed, *refused]))
    return 1 if failed or refused else 0


def _plan(combinations: Sequence[Sequence[str]], num_gpus: int) -> tuple[list[Job], list[str]]:
    """Jobs without repetition, and a sentence for each that is refused."""
    jobs: dict[str, Job] = {}
    refused = []
    for overrides in combinations:
        try:
            job = plan_job(" ".join(overrides), overrides, num_gpus=num_gpus)
        except UserError as error:
            refused.append(f"refused  {' '.join(overrides)}: {error}")
        else:
            jobs.setdefault(job.id, job)
    return list(jobs.values()), refused


def _say(text: str) -> None:
    Console(stderr=True).print(text.strip(), highlight=False, markup=False, soft_wrap=True)
