"""Running jobs: started when a slot is free, watched, stopped together."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from facedistill.errors import UserError, os_errors_as
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.base import LOST, Launcher, Running
from facedistill.sweeps.launchers.guard import PATIENCE_S
from facedistill.sweeps.view import SweepView

_POLL_S = 0.5


@dataclass(frozen=True)
class Ended:
    """A job that is over; `failure` is a sentence, or None where it ended well."""

    job: Job
    failure: str | None


class Pool:
    """Starts and follows jobs; one that fails neither stops nor touches the others.

    Args:
        launcher: Where they run.
        logs: Folder for what they print, `<id>.log`.
        view: Where their state is shown.
    """

    def __init__(self, launcher: Launcher, logs: Path, view: SweepView) -> None:
        self.launcher = launcher
        self.logs = logs
        self.view = view
        self.active: dict[str, tuple[Job, Running]] = {}
        self._lost: list[Job] = []
        with os_errors_as(
            UserError, f"{logs}: cannot be written", "give another folder, runs_dir=/another/folder"
        ):
            logs.mkdir(parents=True, exist_ok=True)

    @property
    def is_idle(self) -> bool:
        """Whether no job runs or is to start again."""
        return not self.active and not self._lost

    def start(self, job: Job) -> bool:
        """Starts the job if a slot is free and no other process runs it."""
        if not self.launcher.has_free_slot(job):
            return False
        if holder := job.folder.holder:
            self.view.set(job, "waiting", f"is being run by {holder}")
            return False
        self.active[job.id] = job, self.launcher.start(job, self._log(job))
        self.view.set(job, "running")
        return True

    def wait(self) -> list[Ended]:
        """Waits half a second, starts jobs again whose machine is gone, and returns what has ended."""
        time.sleep(_POLL_S)
        self.view.tick()
        ended = []
        for job, running in list(self.active.values()):
            code = running.poll()
            if code == LOST:
                del self.active[job.id]
                self.view.set(
                    job, "waiting", "lost with its machine; it starts again from its last checkpoint"
                )
                self._lost.append(job)
            elif code is not None:
                del self.active[job.id]
                failure = f"{job.label}: {_last_line(self._log(job))} (all of it in {self._log(job)})"
                ended.append(Ended(job, failure if code else None))
        # Before the caller starts new jobs in the slots that became free.
        self._lost = [job for job in self._lost if not self.start(job)]
        return ended

    def stop(self, job: Job) -> None:
        """Asks one job to save and end; it comes back from `wait` when it has."""
        self.active[job.id][1].stop()

    def stop_all(self) -> None:
        """Lets all finish their step and save; after a second interruption or a time limit they are killed."""
        processes = [running for _, running in self.active.values()]
        for one in processes:
            one.stop()
        deadline = time.monotonic() + PATIENCE_S
        try:
            while any(one.poll() is None for one in processes) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            for one in processes:
                if one.poll() is None:
                    one.kill()

    def _log(self, job: Job) -> Path:
        return self.logs / f"{job.id}.log"


@contextmanager
def stopping(pool: Pool) -> Iterator[None]:
    """Whatever ends the block early, SIGTERM included, stops the jobs, or says that they stay in their queue."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except BaseException:
        if pool.launcher.stops_with_sweep:
            if pool.active:
                pool.view.say(
                    f"{len(pool.active)} job(s) finish their step and save; a second Ctrl-C kills them"
                )
            pool.stop_all()
        elif pool.active:
            pool.view.say(f"{len(pool.active)} job(s) stay in the queue; the same command follows them again")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def execute(
    jobs: Sequence[Job],
    launcher: Launcher,
    *,
    logs: Path,
    finished: Callable[[Job], object] = lambda job: None,
) -> list[str]:
    """Runs everything, in this order, as many at a time as there are slots.

    Args:
        jobs: What to run.
        launcher: Where.
        logs: Folder for what the jobs print, `<id>.log`.
        finished: Called after each job that ended well.

    Returns:
        One sentence for each job that failed.

    Raises:
        ConfigError: If a job can never run there.
        KeyboardInterrupt: After all jobs under way have saved their state and stopped.
    """
    for job in jobs:
        launcher.check(job)
    waiting, failed = list(jobs), []
    with SweepView(jobs) as view:
        pool = Pool(launcher, logs, view)
        with stopping(pool):
            while waiting or not pool.is_idle:
                for job in list(waiting):
                    if pool.start(job):
                        waiting.remove(job)
                    elif not launcher.has_free_slot(job):
                        break  # the order holds: a large job is not overtaken for ever by small ones
                for ended in pool.wait():
                    failure = ended.failure or _failure_of(finished, ended.job)
                    view.set(ended.job, "failed" if failure else "done", failure or "")
                    failed += [failure] if failure else []
    return failed


def _failure_of(finished: Callable[[Job], object], job: Job) -> str | None:
    try:
        finished(job)
    except UserError as error:
        return f"{job.label}: {error}"
    return None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _last_line(log: Path) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "ended without output"
