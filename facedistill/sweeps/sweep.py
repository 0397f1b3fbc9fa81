"""`facedistill train -m`: many runs, each in a process tree of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig

from facedistill.config import compose, validate
from facedistill.config.overrides import quoted, unreadable
from facedistill.errors import ConfigError, UserError
from facedistill.runs.sources import instantiate
from facedistill.sweeps.grid import expand
from facedistill.sweeps.job import Job, plan_job
from facedistill.sweeps.launchers.base import Launcher
from facedistill.sweeps.launchers.job_files import KubernetesFile, SkyPilotFile
from facedistill.sweeps.launchers.pool import execute
from facedistill.sweeps.search.optuna import OptunaSearch
from facedistill.system.messages import print_message
from facedistill.system.trust import as_arguments

# The same for all jobs of a sweep.
_COMMON = ("launcher", "sweep", "runs_dir")


@dataclass(frozen=True)
class _Sweep:
    """A sweep's own settings."""

    arguments: tuple[str, ...]
    settings: DictConfig
    launcher: Launcher

    @property
    def name(self) -> str:
        """Equal for equal overrides, in whatever order; the wandb group of all jobs."""
        own = sorted(text for text in self.arguments if text.split("=")[0].split(".")[0] not in _COMMON)
        return f"{self.settings.name}-{hashlib.sha256(chr(10).join(own).encode()).hexdigest()[:8]}"

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return Path(self.settings.runs_dir)


def sweep(arguments: Sequence[str], *, dry: bool = False) -> int:
    """Plans jobs, names those that are refused, runs the others, and skips what is finished.

    The same command continues an interrupted sweep: finished runs are skipped and started ones continued.

    Args:
        arguments: Overrides, some with several values (`seed=1,2,3`); with `sweep=optuna` also intervals.
        dry: Prints the job file of `launcher=skypilot` or `launcher=kubernetes`, and starts nothing.

    Returns:
        0, or 1 where a job was refused or failed.

    Raises:
        UserError: If nothing can be run at all.
    """
    # An sbatch script has SLURM_PROCID too, and runs once.
    if "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        raise ConfigError(
            "-m inside torchrun or srun would start the sweep once in each process; start it by itself, and "
            "every job starts its own processes"
        )
    settings = compose("train", _fixed(arguments))
    launcher = instantiate(settings.launcher)
    one = _Sweep(tuple(arguments), settings, launcher)
    chooser = instantiate(settings.sweep)
    if dry or isinstance(launcher, SkyPilotFile | KubernetesFile):
        print(_job_file(one, launcher, dry=dry, is_search=isinstance(chooser, OptunaSearch)), end="")
        return 0
    if isinstance(chooser, OptunaSearch):
        failed = chooser.run(one.arguments, name=one.name, runs=one.runs, launcher=one.launcher)
        if failed:
            print_message("\n".join([f"{len(failed)} trial(s) refused or failed", *failed]))
    else:
        failed = _run_grid(one)
    return 1 if failed else 0


def _job_file(one: _Sweep, launcher: object, *, dry: bool, is_search: bool) -> str:
    """The rendered job file; nothing is written."""
    if not isinstance(launcher, SkyPilotFile | KubernetesFile):
        raise ConfigError(
            "--dry: prints the job file of launcher=skypilot or launcher=kubernetes; choose one"
        )
    if not dry:
        raise ConfigError(
            f"launcher={launcher.name}: renders a job file and starts nothing; add --dry, and give the file to {launcher.tool}"
        )
    if one.settings.get("force"):
        raise ConfigError(
            f"force=true: launcher={launcher.name} starts a job again after a preemption, which would train from the start "
            "each time; leave it out, and give another runs_dir or name for a fresh run"
        )
    if is_search and not launcher.takes_search:
        raise ConfigError(
            f"launcher={launcher.name}: its jobs are fixed from the start and a search proposes them one by one; use "
            "launcher=ray on a Ray cluster there, or sweep=grid"
        )
    own = [text for text in one.arguments if text.split("=")[0].split(".")[0] not in ("launcher", "runs_dir")]
    jobs = [] if is_search else expand(own)
    for overrides in jobs:
        validate(compose("train", overrides))
    import yaml

    trust = as_arguments()
    content = launcher.render(one.name, [*own, *trust], [(*overrides, *trust) for overrides in jobs])
    return yaml.safe_dump(content, sort_keys=False, width=1000)


def _run_grid(one: _Sweep) -> list[str]:
    combinations = expand(one.arguments)
    for overrides in combinations:
        compose("train", overrides)  # a mistyped choice or key is no job that fails, and nothing is started
    jobs, refused = _plan(combinations, one)
    waiting = [job for job in jobs if job.config.force or not job.folder.is_finished]
    counts = f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}, {len(jobs) - len(waiting)} finished already, {len(refused)} refused"
    print_message("\n".join([counts, *refused]))
    if not jobs:
        raise UserError("no job of the sweep can run")
    failed = execute(waiting, one.launcher, logs=one.runs / "logs")
    if failed or refused:
        ends = [f"{len(some)} {what}" for some, what in ((failed, "failed"), (refused, "refused")) if some]
        print_message("\n".join([", ".join(ends), *failed, *refused]))
    return failed + refused


def _plan(combinations: Sequence[Sequence[str]], one: _Sweep) -> tuple[list[Job], list[str]]:
    """Jobs without repetition, and a sentence for each that is refused."""
    jobs: dict[str, Job] = {}
    refused = []
    for label, overrides in zip(labels(combinations), combinations, strict=True):
        try:
            job = plan_job(label, overrides, num_gpus=one.launcher.num_gpus, group=one.name)
        except UserError as error:
            refused.append(f"refused  {label}: {error}")
        else:
            jobs.setdefault(job.id, job)
    return list(jobs.values()), refused


def labels(combinations: Sequence[Sequence[str]]) -> list[str]:
    """What tells each combination from the others: the overrides that not all have.

    >>> labels([("images=9", "seed=1"), ("images=9", "seed=2")])
    ['seed=1', 'seed=2']
    """
    shared = set.intersection(*map(set, combinations)) if len(set(combinations)) > 1 else set()
    return [" ".join(text for text in overrides if text not in shared) for overrides in combinations]


def _fixed(arguments: Sequence[str]) -> list[str]:
    """The overrides that are the same for all jobs."""
    fixed = []
    for text in arguments:
        try:
            (override,) = OverridesParser.create().parse_overrides([quoted(text)])
        except OverrideParseException as error:
            raise ConfigError(unreadable(text)) from error
        if not override.is_sweep_override():
            if not override.is_hydra_override() or override.key_or_group == "hydra.searchpath":
                fixed.append(text)
        elif override.key_or_group.split(".")[0] in _COMMON:
            raise ConfigError(f"{text}: is the sweep's own and the same for all its jobs; give one value")
    return fixed
