"""A search: Optuna proposes runs from what earlier ones reached, and stops those that fall behind."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from facedistill.errors import ConfigError, UserError
from facedistill.sweeps.job import Job, plan_job
from facedistill.sweeps.launchers.base import Launcher
from facedistill.sweeps.launchers.pool import Ended, Pool, stopping
from facedistill.sweeps.progress_files import curve
from facedistill.sweeps.search.report import write_report
from facedistill.sweeps.search.space import Space, read_space
from facedistill.sweeps.view import SweepView


@dataclass
class _Open:
    """A running job and the trials that proposed it: equal proposals share a run."""

    job: Job
    trials: list[Any]
    is_behind: bool = False
    reported: set[int] = field(default_factory=set)


@dataclass
class OptunaSearch:
    """`sweep=optuna`: ask, run, tell; the study is a SQLite file and continues after an interruption.

    Args:
        trials: How many in all.
        metric: A validation figure of metrics.csv, "val/…"; its last value is what a run reached.
        direction: What is better.
        sampler: `tpe` or `random`.
        sampler_seed: Of the proposals.
        startup_trials: Drawn at random before tpe proposes.
        prune: Stop runs whose metric is below the median of earlier runs at the same step.
        study: Name; None: that of the sweep.

    Raises:
        ConfigError: If Optuna is not installed, or a benchmark's figure is to choose the student.
    """

    trials: int = 30
    metric: str = "val/cosine"
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Literal["tpe", "random"] = "tpe"
    sampler_seed: int = 1
    startup_trials: int = 8
    prune: bool = True
    study: str | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"sweep.trials={self.trials}: must be > 0")
        if not self.metric.startswith("val/"):
            raise ConfigError(
                f"sweep.metric={self.metric}: a search chooses by validation figures, val/cosine or another of "
                "metrics.csv; what a table reports must not choose"
            )
        try:
            self._optuna: Any = import_module("optuna")
            import_module("sklearn")  # for the importances at the end
        except ImportError as error:
            raise ConfigError(
                f"sweep=optuna: {error.name} is not installed; pip install 'facedistill[sweep]', or sweep=grid"
            ) from error
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)

    def run(self, arguments: Sequence[str], *, name: str, runs: Path, launcher: Launcher) -> list[str]:
        """Runs what the study still lacks, and writes its table and picture to `runs`/sweeps/<study>/.

        Returns:
            One sentence for each trial that was refused or failed.
        """
        name = self.study or name
        folder = runs / "sweeps" / name
        folder.mkdir(parents=True, exist_ok=True)
        study = self._open_study(name, folder / "study.db")
        with SweepView() as view:
            pool = Pool(launcher, runs / "logs", view)
            search = _Search(self, study, read_space(arguments), pool, name)
            with stopping(pool):
                search.run()
            for path in write_report(study, folder, self.metric):
                view.say(str(path))
        return search.failed

    def _open_study(self, name: str, path: Path) -> Any:
        optuna = self._optuna
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked experimental
            study = optuna.create_study(
                storage=f"sqlite:///{path.absolute()}", study_name=name, direction=self.direction, load_if_exists=True
            )  # fmt: skip
            # A sampler that was seeded alike again would propose the first trials again.
            seed = self.sampler_seed + len(study.trials)
            study.sampler = (
                optuna.samplers.RandomSampler(seed=seed)
                if self.sampler == "random"
                else optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=self.startup_trials, constant_liar=True
                )
            )
        study.pruner = optuna.pruners.MedianPruner() if self.prune else optuna.pruners.NopPruner()
        began = study.user_attrs.get("metric", self.metric), study.direction.name.lower()
        if began != (self.metric, self.direction):
            raise ConfigError(
                f"sweep.metric={self.metric}, sweep.direction={self.direction}: the study {name} began with "
                f"{began[0]}, {began[1]}; give another name, sweep.study=…"
            )
        study.set_user_attr("metric", self.metric)
        return study


class _Search:
    """The loop of one search."""

    def __init__(self, settings: OptunaSearch, study: Any, space: Space, pool: Pool, group: str) -> None:
        self.settings, self.study, self.space, self.pool, self.group = settings, study, space, pool, group
        self.state = settings._optuna.trial.TrialState
        self.failed: list[str] = []
        self._open: dict[str, _Open] = {}
        self._pending: Job | None = None
        self._last: Job | None = None
        trial = settings._optuna.trial.Trial
        running = study.get_trials(deepcopy=False, states=[self.state.RUNNING])
        self._interrupted = [trial(study, one._trial_id) for one in running]

    def run(self) -> None:
        """Runs until all trials have a result."""
        while True:
            while self._pending is None and self._has_free_slot() and (trial := self._next()):
                self._plan(trial)
                self._start()
            self._start()
            if self.pool.is_idle and self._pending is None:
                return
            ended = self.pool.wait()
            for one in self._open.values():
                self._report(one)
            for over in ended:
                self._tell(over)

    def _has_free_slot(self) -> bool:
        return self._last is None or self.pool.launcher.has_free_slot(self._last)

    def _next(self) -> Any:
        if self._interrupted:
            return self._interrupted.pop(0)
        if len(self.study.get_trials(deepcopy=False)) >= self.settings.trials:
            return None
        try:
            return self.study.ask(dict(self.space.distributions))
        except ValueError as error:
            raise ConfigError(
                f"sweep.study={self.study.study_name}: began with other choices ({error}); give another name"
            ) from error

    def _plan(self, trial: Any) -> None:
        """Makes the trial's run the pending one, or ends the trial."""
        if set(trial.params) != set(self.space.distributions):  # killed in the middle of a proposal
            self.study.tell(trial, state=self.state.FAIL)
            return
        overrides = self.space.overrides(trial.params)
        chosen = " ".join(overrides[len(self.space.fixed) :])
        label = f"trial {trial.number}  {chosen}"
        try:
            job = plan_job(label, overrides, num_gpus=self.pool.launcher.num_gpus, group=self.group)
            self.pool.launcher.check(job)
        except UserError as error:
            self._fail([trial], f"refused  {label}: {error}")
            return
        trial.set_user_attr("run", job.id)
        self._last = job
        if job.id in self._open:
            self._open[job.id].trials.append(trial)
        elif job.folder.is_finished:
            self._reached(_Open(job, [trial]))
        else:
            reported = set(self.study.trials[trial.number].intermediate_values)
            self._open[job.id] = _Open(job, [trial], reported=reported)
            self._pending = job
            self.pool.view.set(job, "waiting")

    def _start(self) -> None:
        if self._pending and self.pool.start(self._pending):
            self._pending = None

    def _report(self, one: _Open) -> None:
        """Reports new values of the metric, and stops a run that is behind."""
        for step, value in curve(one.job.folder, self.settings.metric):
            if step in one.reported or not math.isfinite(value):
                continue
            one.reported.add(step)
            for trial in one.trials:
                trial.report(value, step)
        can_stop = one.reported and one.job.id in self.pool.active and not one.is_behind
        if can_stop and one.trials[0].should_prune():
            one.is_behind = True
            self.pool.stop(one.job)

    def _tell(self, ended: Ended) -> None:
        one = self._open.pop(ended.job.id)
        if ended.failure is None:
            self._reached(one)
        elif one.is_behind:
            step, value = curve(one.job.folder, self.settings.metric)[-1]
            one.job.folder.update_record(
                status="pruned", reason=f"behind the median of the study {self.study.study_name}"
            )
            for trial in one.trials:
                self.study.tell(trial, state=self.state.PRUNED)
            self.pool.view.set(one.job, "pruned", f"{self.settings.metric} {value:.4f} at step {step}")
        else:
            self._fail(one.trials, ended.failure)
            self.pool.view.set(one.job, "failed", ended.failure)

    def _reached(self, one: _Open) -> None:
        values = curve(one.job.folder, self.settings.metric)
        if not values or not math.isfinite(values[-1][1]):
            sentence = (
                f"{one.job.label}: logged no {self.settings.metric}; sweep.metric is another of metrics.csv"
            )
            self._fail(one.trials, sentence)
            self.pool.view.set(one.job, "failed", sentence)
            return
        for trial in one.trials:
            self.study.tell(trial, values[-1][1])
        self.pool.view.set(one.job, "done")

    def _fail(self, trials: Sequence[Any], sentence: str) -> None:
        self.failed.append(sentence)
        for trial in trials:
            trial.set_user_attr("failure", sentence)
            self.study.tell(trial, state=self.state.FAIL)
