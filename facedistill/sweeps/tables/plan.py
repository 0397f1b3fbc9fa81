"""Which runs make a table: rows x seeds of `experiments/<table>/rows.yaml`, each with its run id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from facedistill.config import compose, validate
from facedistill.errors import ConfigError, UserError
from facedistill.sweeps.job import Job, plan_job
from facedistill.sweeps.tables.missing import missing_for_training

_KEYS = {"title", "note", "common", "images", "seeds", "rows", "metrics", "files", "reference"}


@dataclass(frozen=True)
class TableRow:
    """One line of a table: its name, what it is called on paper, its overrides, its number of seeds."""

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
        files: What belongs where below the data folder, for the sentences on what is missing.
    """

    folder: Path
    title: str
    note: str
    metrics: tuple[str, ...]
    common: tuple[str, ...]
    images: int
    rows: tuple[TableRow, ...]
    files: Mapping[str, str]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a table.

    Attributes:
        row: Its row.
        seed: Its seed.
        config: Composed and validated.
        job: What makes it; None where something is missing here, without which a run has no identity.
        missing: What that is, a phrase each.
    """

    row: TableRow
    seed: int
    config: DictConfig
    job: Job | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All runs of a table, and what keeps some from starting here.

    Attributes:
        runs: The first seed of every row, then the second, …: an interrupted table has complete rounds.
        missing: Faces, weights and devices that are missing on this machine, each once.
    """

    runs: tuple[PlannedRun, ...]
    missing: tuple[str, ...]


def read_table(folder: Path) -> Table:
    """Reads `folder`/rows.yaml.

    Raises:
        ConfigError: If there is none, or a key is missing or unknown.
    """
    path = folder / "rows.yaml"
    if not path.is_file():
        if not folder.parent.is_dir():
            raise ConfigError(
                f"there is no folder {folder.parent} here; tables are made in a clone of the repository: git clone it, "
                "and run the command there"
            )
        others = sorted(p.parent.name for p in folder.parent.glob("*/rows.yaml"))
        raise ConfigError(
            f"TABLE={folder.name}: there is no such table; there are {', '.join(others) or 'none'}"
        )
    content = yaml.safe_load(path.read_text())
    unknown = set(content) - _KEYS
    missing = {"title", "common", "images", "seeds", "rows", "metrics"} - set(content)
    if unknown or missing:
        raise ConfigError(
            f"{path}: " + "; ".join([f"unknown key {key}" for key in sorted(unknown)]
                                    + [f"missing key {key}" for key in sorted(missing)])
        )  # fmt: skip
    if not content["rows"]:
        raise ConfigError(f"{path}: rows is empty; give the table a row")
    if (reference := content.get("reference")) not in (None, *content["rows"]):
        raise ConfigError(
            f"{path}: reference: no row is named {reference!r}; there are {', '.join(content['rows'])}"
        )
    rows = tuple(_row(name, row, content["seeds"]) for name, row in content["rows"].items())
    return Table(
        folder, content["title"], content.get("note", ""), tuple(content["metrics"]),
        tuple(content["common"]), int(content["images"]), rows, content.get("files", {}),
    )  # fmt: skip


def chosen_rows(table: Table, names: str | None) -> Table:
    """The table with only the named rows, separated by commas; with all of them where None.

    Raises:
        ConfigError: If it has no row of such a name.
    """
    if names is None:
        return table
    known = [row.name for row in table.rows]
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"--rows={names}: no row is named {unknown[0]!r}; there are {', '.join(known)}")
    return replace(table, rows=tuple(row for row in table.rows if row.name in wanted))


def plan(table: Table, *, images: int | None = None, seeds: int | None = None, num_gpus: int = 0) -> Plan:
    """Composes and checks every run of the table before any of them starts; nothing is loaded.

    Args:
        table: What to plan.
        images: Another image budget than the table's.
        seeds: Seeds of every row, in place of each row's own number.
        num_gpus: How many the machine has.

    Raises:
        ConfigError: If any run's configuration is refused; every row that is, is named.
    """
    runs: list[PlannedRun] = []
    problems: dict[str, None] = {}
    missing: dict[str, None] = {}
    owners: dict[str, str] = {}
    budget = f"images={images or table.images}"
    for seed in range(1, max(seeds or row.seeds for row in table.rows) + 1):
        for row in table.rows:
            if seed > (seeds or row.seeds):
                continue
            overrides = (*table.common, *row.overrides, budget, f"seed={seed}")
            try:
                config = compose("train", overrides)
                validate(config)
                lacking = missing_for_training(config, table.files, num_gpus)
                label = f"{row.name} seed {seed}"
                job = None if lacking else plan_job(label, overrides, num_gpus=num_gpus)
            except UserError as error:
                problems[f"  {row.name}: {error}"] = None  # once for all seeds
                continue
            if job and (twin := owners.setdefault(job.id, row.name)) != row.name:
                problems[f"  {row.name}: is the same run as {twin}; change it, or leave it out"] = None
            missing.update(dict.fromkeys(lacking))
            runs.append(PlannedRun(row, seed, config, job, tuple(lacking)))
    if problems:
        raise ConfigError("\n".join([f"{table.folder / 'rows.yaml'}: {len(problems)} row(s)", *problems]))
    return Plan(tuple(runs), tuple(missing))


def _row(name: str, content: Mapping[str, Any], seeds: int) -> TableRow:
    return TableRow(
        name, content.get("label", name), tuple(content["overrides"]), int(content.get("seeds", seeds))
    )
