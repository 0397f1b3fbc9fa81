"""Progress of a sweep: jobs, rates, best result, time left; a live table in a terminal, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from facedistill.reporting.numbers import duration, percent, rate
from facedistill.reporting.record import Results
from facedistill.sweeps.job import Job
from facedistill.sweeps.progress_files import Progress, curve, progress

State = Literal["waiting", "running", "done", "failed", "pruned"]
_COLORS = {"waiting": "dim", "running": "cyan", "done": "green", "failed": "red", "pruned": "yellow"}
_SHOWN = 12
_REFRESH_S = 2.0
_LINE_EVERY_S = 60.0  # between two summaries where there is no terminal


class SweepView:
    """Shows the state of jobs, read from their runs' own files.

    Args:
        jobs: Those known from the start; others join when they are first set.
    """

    def __init__(self, jobs: Sequence[Job] = ()) -> None:
        self.console = Console(stderr=True)
        self.jobs = {job.id: job for job in jobs}
        self.states: dict[str, State] = dict.fromkeys(self.jobs, "waiting")
        self.notes: dict[str, str] = {}
        self._progress: dict[str, Progress] = {}
        self._best: dict[str, float] = {}
        self._read_at = self._printed_at = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._live is not None:
            self._read()
            self._live.stop()
        elif kind is None and self.jobs:
            self.say(self.summary())

    def set(self, job: Job, state: State, note: str = "") -> None:
        """Sets a job's state; prints one line at its end and for each new reason to wait."""
        self.jobs[job.id] = job
        changed = self.states.get(job.id) != state or self.notes.get(job.id) != note
        self.states[job.id], self.notes[job.id] = state, note
        if not changed:
            return
        if state == "done":
            self._read_one(job)
            self.say(f"done    {job.label}  {_glance(job)}")
        elif note:
            self.say(f"{state:<7} {note if state == 'failed' else f'{job.label}: {note}'}")

    def say(self, line: str) -> None:
        """Writes a line that stays."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Reads the runs' files now and then; without a terminal a summary is written now and then."""
        now = time.monotonic()
        if now - self._read_at >= _REFRESH_S:
            self._read_at = now
            self._read()
        if self._live is None and now - self._printed_at >= _LINE_EVERY_S:
            self._printed_at = now
            self.say(self.summary())

    def summary(self) -> str:
        """One line: how many jobs are in which state, their rate together, the best so far, time left."""
        counts = [
            f"{len(self._in(state))} {state}" for state in ("done", "running", "waiting", "failed", "pruned")
        ]
        parts = [
            f"{len(self.jobs)} job{'s' if len(self.jobs) != 1 else ''}: "
            + ", ".join(text for text in counts if not text.startswith("0 "))
        ]
        if together := self._rate():
            parts.append(f"{rate(together)} images/s")
        if self._best:
            best = max(self._best, key=lambda name: self._best[name])
            parts.append(f"best cosine {self._best[best]:.4f} ({self.jobs[best].label})")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return " | ".join(parts)

    def seconds_left(self) -> float | None:
        """Images still to be seen by all jobs, over the rate of those that run; None before there is one."""
        together = self._rate()
        if not together:
            return None
        images = sum(self.jobs[name].images for name in self._in("waiting"))
        for name in self._in("running"):
            seen = self._progress.get(name, Progress())
            images += max((seen.total_images or self.jobs[name].images) - seen.images_seen, 0)
        return images / together

    def _rate(self) -> float:
        running = (self._progress.get(name, Progress()) for name in self._in("running"))
        return sum(one.images_per_s or 0.0 for one in running)

    def _in(self, state: str) -> list[str]:
        return [name for name, one in self.states.items() if one == state]

    def _read(self) -> None:
        for name in self._in("running"):
            self._read_one(self.jobs[name])

    def _read_one(self, job: Job) -> None:
        self._progress[job.id] = progress(job.folder)
        if values := [value for _, value in curve(job.folder)]:
            self._best[job.id] = max(values)

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, ratio=1)
        table.add_column(no_wrap=True)
        for _ in range(4):
            table.add_column(no_wrap=True, justify="right")
        order = {"running": 0, "failed": 1, "done": 2, "pruned": 3, "waiting": 4}
        names = sorted(self.jobs, key=lambda name: order[self.states[name]])
        for name in names[:_SHOWN]:
            one, state = self._progress.get(name, Progress()), self.states[name]
            share = one.images_seen / (one.total_images or self.jobs[name].images)
            is_running = state == "running"
            table.add_row(
                Text(self.jobs[name].label, overflow="ellipsis"),
                Text(state, style=_COLORS[state]),
                f"{100 * share:.0f} %" if is_running else "",
                f"{rate(one.images_per_s)} images/s" if is_running and one.images_per_s else "",
                f"{self._best[name]:.4f}" if name in self._best else "",
                f"{duration(one.seconds_left)} left" if is_running and one.seconds_left is not None else "",
            )
        more = [Text(f"and {len(names) - _SHOWN} more", style="dim")] if len(names) > _SHOWN else []
        return Group(table, *more, Text(self.summary(), style="bold"))


def _glance(job: Job) -> str:
    protocols = Results.load(job.folder.results).student.protocols
    figures = [f"{name} {percent(one['accuracy'])}" for name, one in protocols.items() if "accuracy" in one]
    return "  ".join([*figures, f"{job.folder.record().wall_s or 0:.0f} s"])
