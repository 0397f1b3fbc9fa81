"""Starts jobs on this machine, each in a fresh process tree of its own, as many as it has room for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from facedistill.errors import ConfigError
from facedistill.launch.job import Job
from facedistill.run_folder import read_json

_POLL_S = 0.5
_PATIENCE_S = 120


@dataclass
class _Active:
    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    gpus: list[str]


def execute(
    jobs: Sequence[Job],
    *,
    slots: int,
    logs: Path,
    finished: Callable[[Job], object] = lambda job: None,
    gpus: Sequence[str] = (),
) -> list[str]:
    """Runs everything; a job that fails neither stops nor touches the others.

    Args:
        jobs: What to run, in this order.
        slots: How many at a time where they want no GPU; each gets its share of the processor's cores. Jobs that
            want GPUs run as soon as that many are free.
        logs: Folder for what the jobs print, `<id>.log`.
        finished: Called after each job that ended well.
        gpus: Ids of the GPUs to pack jobs onto.

    Returns:
        One sentence for each job that failed.

    Raises:
        ConfigError: If a job wants more GPUs than there are.
        KeyboardInterrupt: After all jobs under way have saved their state and stopped.
    """
    for job in jobs:
        if job.gpus > len(gpus):
            raise ConfigError(
                f"{job.label}: wants {job.gpus} GPUs and there are {len(gpus)}; lower trainer.devices"
            )
    logs.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    waiting, free = list(jobs), list(gpus)
    active: list[_Active] = []
    failed: list[str] = []
    with _progress() as progress:
        whole = progress.add_task(f"{len(jobs)} jobs", total=len(jobs))
        try:
            while waiting or active:
                while waiting and _fits(waiting[0], active, slots, free):
                    job = waiting.pop(0)
                    active.append(_start(job, slots, logs, [free.pop(0) for _ in range(job.gpus)]))
                time.sleep(_POLL_S)
                for ended in [one for one in active if one.process.poll() is not None]:
                    active.remove(ended)
                    free += ended.gpus
                    progress.advance(whole)
                    if ended.process.returncode == 0:
                        finished(ended.job)
                        progress.console.print(
                            f"done    {ended.job.label}  {_glance(ended.job)}", highlight=False
                        )
                    else:
                        failed.append(
                            f"{ended.job.label}: {_last_words(ended.log)} (all of it in {ended.log})"
                        )
                        progress.console.print(f"failed  {failed[-1]}", highlight=False, markup=False)
        except KeyboardInterrupt:
            _stop(active)
            raise
    return failed


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def gpu_ids() -> list[str]:
    """Ids of the GPUs that this process may use, for `CUDA_VISIBLE_DEVICES`."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return shown.split(",")[:count] if shown else [str(number) for number in range(count)]


def _fits(job: Job, active: Sequence[_Active], slots: int, free: Sequence[str]) -> bool:
    return len(free) >= job.gpus if job.gpus else sum(not one.job.gpus for one in active) < slots


def _start(job: Job, slots: int, logs: Path, gpus: list[str]) -> _Active:
    log = logs / f"{job.id}.log"
    threads = max(1, (os.cpu_count() or 1) // slots)
    command = [sys.executable, "-m", "facedistill.cli", "train", *job.overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
    return _Active(job, process, log, gpus)


def _stop(active: Sequence[_Active]) -> None:
    for one in active:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGTERM)  # the run finishes its step, saves and ends
    for one in active:
        try:
            one.process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(one.process.pid, signal.SIGKILL)


def _glance(job: Job) -> str:
    protocols = read_json(job.folder.results).get("student", {}).get("protocols", {})
    figures = [f"{name} {100 * protocols[name]['accuracy']:.2f} %" for name in protocols]
    return "  ".join([*figures, f"{job.folder.record().get('wall_s', 0):.0f} s"])


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "ended without a word"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
