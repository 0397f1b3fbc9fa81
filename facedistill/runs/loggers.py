"""Loggers that need more than a `_target_` to be right."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from facedistill.errors import UserError
from facedistill.reporting.dashboard.wandb_views import has_key
from facedistill.reporting.record import RunRecord
from facedistill.reporting.run.facts import NOT_RECORDED
from facedistill.reporting.run.summary import summarize
from facedistill.system.files import write_atomically

_FLUSH_S = 5.0

_LONGEST_TAG = 64  # what wandb takes


class MetricsCsv(Logger):
    """Writes `metrics.csv` into the run folder, one row per log call.

    Unlike Lightning's own, it continues the file of an interrupted run: rows later than the checkpoint that the
    run resumes from are dropped, and a row that is logged twice is written once, so that the curve is that of one
    uninterrupted run.

    Args:
        save_dir: The run folder.
        flush_every_rows: The file is written after as many rows, or when it was last written five seconds ago. A
            checkpoint flushes it too, so that a kill costs no row.
    """

    def __init__(self, save_dir: str, flush_every_rows: int = 20) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.flush_every_rows = flush_every_rows
        self._rows: list[dict[str, Any]] = []
        self._continues = self.path.exists()
        self._flushed_at = time.monotonic()

    name = None
    version = None

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsCsv:
        """The logger itself: there is nothing behind it."""
        return self

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in config.yaml."""

    @rank_zero_only
    def continue_from(self, step: int) -> None:
        """Drops the rows from `step` on, where the run continues."""
        self._continues = False
        if self.path.exists():
            with self.path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]

    def has_validation(self, step: int) -> bool:
        """Whether there is a row with validation figures of `step`."""
        rows = (row for row in self._rows if int(row["step"]) == step)
        return any(name.startswith("val/") and value != "" for row in rows for name, value in row.items())

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        if self._continues:
            self.continue_from(step or 0)
        row = {"step": step, **metrics}
        place = len(self._rows)
        while place and int(self._rows[place - 1]["step"]) == step:
            place -= 1
            if _is_same_row(self._rows[place], row):
                self._rows[place] = row
                return
        self._rows.append(row)
        is_validation = any(
            name.startswith("val/") for name in metrics
        )  # a search decides by them as they come
        if (
            is_validation
            or len(self._rows) % self.flush_every_rows == 0
            or time.monotonic() - self._flushed_at > _FLUSH_S
        ):
            self.flush()

    def save(self) -> None:
        """Nothing: Lightning calls it after each row, and the file grows."""

    @rank_zero_only
    def flush(self) -> None:
        """Writes all rows."""
        self._flushed_at = time.monotonic()
        columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        text = StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        if self._rows:
            write_atomically(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is left."""
        self.flush()


def _is_same_row(logged: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether two rows of one step fill the same columns."""
    return {name for name, value in logged.items() if value != ""} == row.keys()


def wandb_logger(project: str, group: str, save_dir: str, name: str | None = None) -> WandbLogger:
    """Makes the wandb logger of one run: online with a key, offline without.

    An offline run is written to `save_dir`; `wandb sync` uploads it later. WANDB_MODE, where set, decides instead. The run
    carries the configuration of `save_dir`, and method, backbone, data and strategy as its tags.

    Args:
        project: wandb project.
        group: wandb group; the runs of one sweep or table share it.
        save_dir: The run folder; its name becomes the wandb run's name. The wandb run is the one whose id is in its
            run.json, so that an interrupted run continues it.
        name: Another name for the run.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode != "online":
        os.environ.setdefault("WANDB_SILENT", "true")
    settings = wandb.Settings(silent=mode != "online", console="off")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    run_name = name or Path(save_dir).name
    logger = WandbLogger(
        project=project, group=group, name=run_name, save_dir=save_dir,
        id=RunRecord.load(Path(save_dir) / "run.json").wandb_id or run_name, mode=mode, resume="allow",
        settings=settings, **_about(Path(save_dir)),
    )  # fmt: skip
    logger._wandb_init.pop(
        "anonymous", None
    )  # Lightning always passes it, and wandb warns that it has no effect
    return logger


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """Makes the TensorBoard logger of one run; its files lie in `tensorboard/` of the run folder.

    Raises:
        UserError: If TensorBoard is not installed.
    """
    try:
        return TensorBoardLogger(save_dir, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=tensorboard: the package tensorboard is not installed; `pip install tensorboard`, or choose "
            "logger=default"
        ) from error


def _about(folder: Path) -> dict[str, Any]:
    """What wandb shows next to the name of the run in `folder`, which has its config.yaml already."""
    if not (folder / "config.yaml").is_file():
        return {}
    run = summarize(folder)
    words = (run.method, run.backbone, run.data, run.strategy)
    return {
        "config": yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
        "tags": [text[:_LONGEST_TAG] for text in words if text != NOT_RECORDED],
    }
