"""Loggers that need more than a `_target_` to be right."""

from __future__ import annotations

import csv
import netrc
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from facedistill.run_folder import write_text


class MetricsCsv(Logger):
    """Writes `metrics.csv` into the run folder, one row per log call.

    Unlike Lightning's own, it continues the file of an interrupted run: rows later than the checkpoint that the
    run resumes from are dropped, so that the curve is that of one uninterrupted run.

    Args:
        save_dir: The run folder.
        flush_every_rows: How often the file is written.
    """

    def __init__(self, save_dir: str, flush_every_rows: int = 20) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.flush_every_rows = flush_every_rows
        self._rows: list[dict[str, Any]] = []
        self._continues = self.path.exists()

    name = None
    version = None

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsCsv:
        """The logger itself: there is nothing behind it."""
        return self

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration stands in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        if self._continues:
            self._continues = False
            with self.path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) < (step or 0)]
        self._rows.append({"step": step, **metrics})
        is_validation = any(
            name.startswith("val/") for name in metrics
        )  # a search decides by them as they come
        if is_validation or len(self._rows) % self.flush_every_rows == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the file whole."""
        columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        text = StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        if self._rows:
            write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is left."""
        self.save()


def wandb_logger(project: str, group: str, save_dir: str, name: str | None = None) -> WandbLogger:
    """Makes the wandb logger of one run: online with a key, offline without.

    An offline run lies in `save_dir`; `wandb sync` uploads it later. WANDB_MODE, where set, decides instead.

    Args:
        project: wandb project.
        group: wandb group; the runs of one sweep or table share it.
        save_dir: The run folder; its name becomes the wandb run's name.
        name: Another name for the run.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode != "online":
        os.environ.setdefault("WANDB_SILENT", "true")
    settings = wandb.Settings(silent=mode != "online", console="off")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    run_name = name or Path(save_dir).name
    return WandbLogger(
        project=project, group=group, name=run_name, id=run_name, save_dir=save_dir, mode=mode, resume="allow",
        settings=settings,
    )  # fmt: skip


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].strip("/")
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
