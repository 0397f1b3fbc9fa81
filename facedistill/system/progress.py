"""The progress of a long pass over a face set."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_DELAY_S = 2.0
_LINE_EVERY_S = 10.0


class ProgressBar:
    """Shows title, count, rate and time left of a pass that takes longer than two seconds.

    In a terminal this is a bar; elsewhere a plain line every ten seconds, on standard error.

    Args:
        title: What is being done.
        total: Number of things.
        unit: What is counted, in the plural.
        console: Where to write; standard error when None.
        clock: Seconds that only rise.
        quiet: Shows nothing.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "images",
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.quiet = quiet
        self.done = 0
        self._bar: Progress | None = None
        self._start = self._last_line_s = clock()

    def __enter__(self) -> ProgressBar:
        self._start = self._last_line_s = self.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self.done += count
        now = self.clock()
        if self.quiet or now - self._start < _DELAY_S:
            return
        if not self.console.is_interactive:
            if now - self._last_line_s >= _LINE_EVERY_S:
                self._last_line_s = now
                self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)
            return
        if self._bar is None:
            rate = TextColumn("{task.fields[rate]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate)
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self._bar.add_task(self.title, total=self.total, rate="")
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0], completed=self.done, rate=f"{_few(self._rate())} {self.unit}/s"
        )

    def line(self) -> str:
        """The state in one line of plain text."""
        rate = self._rate()
        left = f", {_duration((self.total - self.done) / rate)} left" if rate else ""
        return f"{self.title}: {self.done:,} of {self.total:,} {self.unit}, {_few(rate)}/s{left}"

    def _rate(self) -> float:
        return self.done / max(self.clock() - self._start, 1e-9)


def _few(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
