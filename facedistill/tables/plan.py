"""Which runs make a table: rows x seeds of `experiments/<table>/rows.yaml`, each with its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facedistill.errors import ConfigError, UserError
from facedistill.launch.job import Job, plan_job

_KEYS = {"title", "note", "common", "images", "seeds", "rows", "metrics"}


@dataclass(frozen=True)
class TableRow:
    """One line of a table: its name, what it is called on paper, its overrides, how many seeds it wants."""

    name: str
    label: str
    overrides: tuple[str, ...]
    seeds: int


@dataclass(frozen=True)
class Table:
    """The contents of rows.yaml.

    Attributes:
        folder: `experiments/<table>`; records lie in its `records`.
        metrics: Which figures make the columns, `<protocol>/<figure>`.
        common: Overrides of every row.
        images: Image budget of every run.
    """

    folder: Path
    title: str
    note: str
    metrics: tuple[str, ...]
    common: tuple[str, ...]
    images: int
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a table: a row, a seed, and the job that makes it."""

    row: TableRow
    seed: int
    job: Job


def read_table(folder: Path) -> Table:
    """Reads `folder`/rows.yaml.

    Raises:
        ConfigError: If there is none, or a key is missing or unknown.
    """
    path = folder / "rows.yaml"
    if not path.is_file():
        others = sorted(p.parent.name for p in folder.parent.glob("*/rows.yaml"))
        raise ConfigError(f"TABLE={folder.name}: there is no such table; there are {', '.join(others)}")
    content = yaml.safe_load(path.read_text())
    unknown = set(content) - _KEYS
    missing = {"title", "common", "images", "seeds", "rows", "metrics"} - set(content)
    if unknown or missing:
        raise ConfigError(
            f"{path}: " + "; ".join([f"unknown key {key}" for key in sorted(unknown)]
                                    + [f"missing key {key}" for key in sorted(missing)])
        )  # fmt: skip
    rows = tuple(_row(name, row, content["seeds"]) for name, row in content["rows"].items())
    return Table(
        folder, content["title"], content.get("note", ""), tuple(content["metrics"]),
        tuple(content["common"]), int(content["images"]), rows,
    )  # fmt: skip


def plan(
    table: Table, *, images: int | None = None, seeds: int | None = None, num_gpus: int = 0
) -> list[PlannedRun]:
    """Composes and checks every run of the table before any of them starts.

    Args:
        table: What to plan.
        images: Another image budget than the table's.
        seeds: Seeds of every row, in place of each row's own number.
        num_gpus: How many the machine has.

    Returns:
        The first seed of every row, then the second, …: an interrupted table has whole rounds.

    Raises:
        ConfigError: If any run's configuration is refused; every row that is, is named.
    """
    runs, problems = [], []
    budget = f"images={images or table.images}"
    for seed in range(1, max(seeds or row.seeds for row in table.rows) + 1):
        for row in table.rows:
            if seed > (seeds or row.seeds):
                continue
            overrides = (*table.common, *row.overrides, budget, f"seed={seed}")
            try:
                job = plan_job(f"{row.name} seed {seed}", overrides, num_gpus=num_gpus)
            except UserError as error:
                if seed == 1:
                    problems.append(f"  {row.name}: {error}")
                continue
            runs.append(PlannedRun(row, seed, job))
    if problems:
        raise ConfigError("\n".join([f"{table.folder / 'rows.yaml'}: {len(problems)} row(s)", *problems]))
    return runs


def _row(name: str, content: Mapping[str, Any], seeds: int) -> TableRow:
    return TableRow(
        name, content.get("label", name), tuple(content["overrides"]), int(content.get("seeds", seeds))
    )
