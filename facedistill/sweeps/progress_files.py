"""How far a run is, from the files that it writes as it goes."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from facedistill.reporting.record import read_object
from facedistill.runs.folder import RunFolder

VALIDATION = "val/cosine"


@dataclass(frozen=True)
class Standing:
    """Where a run stands; None where it has not said yet."""

    images_seen: int = 0
    total_images: int | None = None
    images_per_s: float | None = None
    seconds_left: float | None = None


def standing(folder: RunFolder) -> Standing:
    """What the run's progress.json says."""
    content = read_object(folder.path / "progress.json")
    return Standing(**{key: content[key] for key in Standing.__dataclass_fields__ if key in content})


def curve(folder: RunFolder, metric: str = VALIDATION) -> list[tuple[int, float]]:
    """(step, value) of a metric in the run's metrics.csv, in order; empty before its first value."""
    path = folder.path / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row[metric])) for row in csv.DictReader(file) if row.get(metric)]
