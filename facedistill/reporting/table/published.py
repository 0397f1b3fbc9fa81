"""What papers say of the cells of a table: `experiments/<table>/published.yaml`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facedistill.errors import ConfigError
from facedistill.reporting.numbers import is_number

_KEYS = {"what", "protocol", "verified", "rows"}


@dataclass(frozen=True)
class Source:
    """Where published figures stand.

    Attributes:
        what: Paper, table, repository.
        protocol: How they were measured.
        verified: Whether they were read in the source itself, and not in a summary of it.
        differs: What keeps them from being compared with ours, where something does.
    """

    what: str
    protocol: str
    verified: bool
    differs: str = ""

    def __str__(self) -> str:
        parts = [f"{self.what}; {self.protocol}"]
        if not self.verified:
            parts.append("second-hand: read in a summary and not in the source")
        if self.differs:
            parts.append(f"not compared: {self.differs}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Published:
    """One figure of a source: a fraction, and the source's number in the list under the table, from 1 on."""

    value: float
    source: Source
    number: int = 1


def read_published(
    path: Path, rows: Collection[str], metrics: Collection[str]
) -> dict[str, dict[str, Published]]:
    """Reads published.yaml: `sources`, each with `what`, `protocol`, `verified`, maybe `differs`, and `rows`.

    Args:
        path: The file; a table without one has nothing published.
        rows: Names of the table's rows.
        metrics: The table's columns.

    Returns:
        Row to metric to figure.

    Raises:
        ConfigError: If a key is missing or unknown, a cell is not of the table or given twice, or a value is no
            fraction.
    """
    content = yaml.safe_load(path.read_text()) if path.is_file() else None
    found: dict[str, dict[str, Published]] = {}
    for number, entry in enumerate((content or {}).get("sources", []), start=1):
        source = _source(f"{path}: source {number}", entry)
        if not entry["rows"]:
            raise ConfigError(f"{path}: source {number}: rows is empty; give figures, or delete the source")
        for row, figures in entry["rows"].items():
            for metric, value in figures.items():
                where = f"{path}: source {number}: {row}: {metric}"
                if row not in rows or metric not in metrics:
                    raise ConfigError(f"{where}: rows.yaml has no such cell")
                if metric in found.get(row, {}):
                    raise ConfigError(f"{where}: is given by two sources; keep one")
                if not is_number(value) or not 0 <= value <= 1:
                    raise ConfigError(f"{where}: expected a fraction in [0, 1], got {value!r}")
                found.setdefault(row, {})[metric] = Published(float(value), source, number)
    return found


def _source(where: str, entry: Mapping[str, Any]) -> Source:
    missing, unknown = _KEYS - set(entry), set(entry) - _KEYS - {"differs"}
    if missing or unknown:
        raise ConfigError(
            f"{where}: " + "; ".join([f"missing key {key}" for key in sorted(missing)]
                                     + [f"unknown key {key}" for key in sorted(unknown)])
        )  # fmt: skip
    return Source(entry["what"], entry["protocol"], bool(entry["verified"]), entry.get("differs", ""))
