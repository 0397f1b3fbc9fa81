"""What a table keeps of a run: one small JSON file, named by the run's identity."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.config import result_relevant
from facedistill.run_folder import read_json, write_text
from facedistill.tables.plan import PlannedRun

_KEPT = (
    "id",
    "command",
    "git",
    "versions",
    "machine",
    "images_seen",
    "wall_s",
    "images_per_s",
    "peak_memory_mib",
)


def record_path(folder: Path, run: PlannedRun) -> Path:
    """Where the record of a run of the table in `folder` lies."""
    return folder / "records" / f"{run.job.id}.json"


def write_record(folder: Path, run: PlannedRun) -> Path:
    """Writes the record of a finished run from the files of its folder: results, configuration, provenance."""
    config = OmegaConf.load(run.job.folder.path / "config.yaml")
    assert isinstance(config, DictConfig)
    own = run.job.folder.record()
    content: dict[str, Any] = {
        "row": run.row.name,
        "seed": run.seed,
        **{key: own[key] for key in _KEPT if key in own},
        "validation": _validation(run.job.folder.path / "metrics.csv"),
        "config": result_relevant(config),
        "results": read_json(run.job.folder.results),
    }
    path = record_path(folder, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def _validation(path: Path) -> dict[str, float]:
    """The last logged validation figures, {"cosine": …}."""
    if not path.exists():
        return {}
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/cosine")]
    last = rows[-1] if rows else {}
    return {key[4:]: float(value) for key, value in last.items() if key.startswith("val/") and value}


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of the table in `folder`, of this and of other machines, by row and seed."""
    records = [json.loads(path.read_text()) for path in sorted((folder / "records").glob("*.json"))]
    return sorted(records, key=lambda record: (record["row"], record["seed"]))
