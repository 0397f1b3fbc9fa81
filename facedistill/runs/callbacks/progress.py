"""Progress of a training run: a live display in a terminal, plain lines in a log."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from facedistill.reporting.numbers import duration, rate
from facedistill.system.files import write_atomically

_WINDOW_S = 60.0
_LINE_S = 10.0  # between plain lines
_LIVE_S = 0.5
_FILE_S = 2.0


class ImagesProgress(Callback):
    """Shows images seen, images/s, loss terms, teacher–student cosine and time left.

    In a terminal this is one live display; elsewhere (a pipe, a log file) a plain line every ten seconds,
    without escape codes. Turn Lightning's own progress bar off. Only rank 0 shows anything.

    The rate covers the last minute, validation included, so that the time left is realistic.

    Args:
        total_images: Image budget of the run.
        console: Where to write; standard error when None.
        clock: Monotonic time in seconds.
        path: JSON file that receives the progress every two seconds, for other processes; None: none.
    """

    def __init__(
        self,
        total_images: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        path: Path | None = None,
    ) -> None:
        self.total_images = total_images
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.path = path
        self.images_seen = 0
        self._terms: Mapping[str, float] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._shown_at = 0.0
        self._written_at = 0.0
        self._is_validating = False
        self._shows = False
        self._live: Live | None = None

    @property
    def images_per_s(self) -> float | None:
        """Rate over the last minute, or over the last step if it took longer; None before the first step."""
        if len(self._samples) < 2:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the budget at the present rate; None if the rate is unknown."""
        if not self.images_per_s:
            return None
        return max(self.total_images - self.images_seen, 0) / self.images_per_s

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the display; a resumed run counts from where it stopped."""
        self._shows = trainer.is_global_zero
        self._sample(pl_module)
        self._shown_at = self.clock()
        if self._shows and self.console.is_interactive:
            self._live = Live(console=self.console, get_renderable=self._display, refresh_per_second=4)
            self._live.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch; reads the logged terms only to show them, because that waits for a GPU."""
        self._sample(pl_module)
        if not self._shows:
            return
        if self.clock() - self._written_at >= _FILE_S:
            self._write()
        since = self.clock() - self._shown_at
        if since >= (_LINE_S if self._live is None else _LIVE_S):
            self._show(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows that validation is running, which lowers images/s."""
        self._is_validating = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows images/s again."""
        self._is_validating = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the last state and closes the display."""
        if self._shows:
            self._write()
            self._show(trainer)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restores the terminal."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restores the terminal."""
        self._close()

    def line(self) -> str:
        """The state in one line of plain text."""
        return " | ".join([self._count(), self._rate(), self._time_left(), *self._term_texts()])

    def _sample(self, pl_module: LightningModule) -> None:
        self.images_seen = int(pl_module.images_seen)  # type: ignore[arg-type]
        now = self.clock()
        self._samples.append((now, self.images_seen))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()

    def _show(self, trainer: Trainer) -> None:
        self._shown_at = self.clock()
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._terms = {name: logged[name] for name in _in_order(logged)}
        if self._live is None:
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)
        else:
            self._live.refresh()

    def _write(self) -> None:
        self._written_at = self.clock()
        if self.path is not None:
            state = {
                "images_seen": self.images_seen, "total_images": self.total_images,
                "images_per_s": self.images_per_s, "seconds_left": self.seconds_left,
            }  # fmt: skip
            write_atomically(self.path, json.dumps(state) + "\n")

    def _close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _display(self) -> Group:
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right")
        bar.add_row(
            ProgressBar(total=self.total_images, completed=min(self.images_seen, self.total_images)),
            Text(self._time_left(), style="bold"),
        )
        now = "validating" if self._is_validating else self._rate()
        figures = Text.assemble(self._count(), "   ", (now, "cyan"))
        return Group(bar, figures, Text("   ".join(self._term_texts()), style="dim"))

    def _count(self) -> str:
        percent = 100 * self.images_seen / max(self.total_images, 1)
        return f"{self.images_seen:,} / {self.total_images:,} images ({percent:.1f} %)"

    def _rate(self) -> str:
        return "- images/s" if self.images_per_s is None else f"{rate(self.images_per_s)} images/s"

    def _time_left(self) -> str:
        left = self.seconds_left
        return "time left unknown" if left is None else f"{duration(left)} left"

    def _term_texts(self) -> list[str]:
        return [f"{name} {value:.4f}" for name, value in self._terms.items()]


def _in_order(names: Mapping[str, float]) -> list[str]:
    """Training terms, the loss first and the cosine last, then validation terms; nothing else."""
    order = {"train/loss": 0, "train/cosine": 2, "val/cosine": 3}
    shown = [name for name in names if name.startswith(("train/", "val/"))]
    return sorted(shown, key=lambda name: (order.get(name, 1 if name.startswith("train/") else 4), name))
