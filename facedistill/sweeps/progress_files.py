"""Progress of a run, from the files that it writes."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from facedistill.reporting.record import read_object
from facedistill.runs.folder import RunFolder

VALIDATION = "val/cosine"


@dataclass(frozen=True)
class Progress:
    """Progress of a run; None where it is not known yet."""

    images_seen: int = 0
    total_images: int | None = None
    images_per_s: float | None = None
    seconds_left: float | None = None


def progress(folder: RunFolder) -> Progress:
    """Reads the run's progress.json."""
    content = read_object(folder.path / "progress.json")
    return Progress(**{key: content[key] for key in Progress.__dataclass_fields__ if key in content})


def curve(folder: RunFolder, metric: str = VALIDATION) -> list[tuple[int, float]]:
    """(step, value) of a metric in the run's metrics.csv, in order; empty before its first value."""
    path = folder.path / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row[metric])) for row in csv.DictReader(file) if row.get(metric)]
