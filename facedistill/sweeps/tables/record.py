"""The record of a run in a table: one small JSON file, named by the run id."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from facedistill.config import result_relevant
from facedistill.errors import UserError
from facedistill.reporting.record import Results
from facedistill.sweeps.job import Job
from facedistill.sweeps.tables.plan import PlannedRun
from facedistill.system.files import write_atomically

_COPIED = (
    "id", "command", "git", "versions", "machine", "images_seen", "wall_s", "images_per_s", "peak_memory_mib", "stored_faces",
    "files",
)  # fmt: skip

_REQUIRED = ("id", "row", "seed", "config", "results")


def record_path(folder: Path, job: Job) -> Path:
    """Path of the record of a run of the table in `folder`."""
    return folder / "records" / f"{job.id}.json"


def write_record(folder: Path, run: PlannedRun) -> Path:
    """Writes the record of a finished run from the files of its folder: results, configuration, provenance."""
    assert run.job is not None
    config = run.job.folder.config()
    assert isinstance(config, DictConfig)
    record = run.job.folder.record().to_json()
    content: dict[str, Any] = {
        "row": run.row.name,
        "seed": run.seed,
        **{key: record[key] for key in _COPIED if key in record},
        "validation": _validation(run.job.folder.path / "metrics.csv"),
        "config": result_relevant(config),
        "results": Results.load(run.job.folder.results).to_json(),
    }
    path = record_path(folder, run.job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
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
    """All records of the table in `folder`, of this and of other machines, by row, seed and budget.

    Raises:
        UserError: If a file is no record, is not named by its run, or the records of one row and budget are of
            different configurations: their mean would mean nothing.
    """
    records = []
    for path in sorted((folder / "records").glob("*.json")):
        record = read_record(path)
        if path.stem != record["id"]:
            raise UserError(
                f"{path}: holds run {record['id']}; name the file {record['id']}.json, or delete it"
            )
        records.append(record)
    records.sort(key=lambda record: (record["row"], record["seed"], record["config"]["images"]))
    _check_one_configuration(folder / "records", records)
    return records


def read_record(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        UserError: If the file is none.
    """
    try:
        record = json.loads(path.read_text())
        wrong = next((key for key in _REQUIRED if key not in record), None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read as a record ({error}); copy it again, or delete it"
        ) from error
    if not isinstance(record, dict) or wrong is not None:
        raise UserError(f"{path}: is not a record of a run, it has no {wrong or 'everything'}; delete it")
    return record


def _check_one_configuration(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    first: dict[tuple[str, int], Mapping[str, Any]] = {}
    seeds: dict[tuple[str, int, int], str] = {}
    for record in records:
        row, seed, config = record["row"], record["seed"], record["config"]
        other = first.setdefault((row, config["images"]), record)
        fix = "a table averages equal runs only; delete those that rows.yaml no longer means"
        for key, *values in differences(other["config"], config):
            if values != [other["seed"], seed]:  # the run's seed, including where it is passed on
                raise UserError(f"{folder}: {row}: {other['id']} and {record['id']} differ in {key}; {fix}")
        sets = {one["stored_faces"]["fingerprint"] for one in (other, record) if one.get("stored_faces")}
        if len(sets) > 1:
            raise UserError(
                f"{folder}: {row}: {other['id']} and {record['id']} were trained on different faces ({' and '.join(sorted(sets))}; "
                f"a set rendered again is another set); {fix}"
            )
        twin = seeds.setdefault((row, seed, config["images"]), record["id"])
        if twin != record["id"]:
            raise UserError(
                f"{folder}: {row}: {twin} and {record['id']} are seed {seed} with different weights or faces; {fix}"
            )


def differences(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every dotted key under which two nested mappings hold different values, with both; None for a missing one."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        if one != other:
            yield key, one, other
        return
    for name in sorted({*one, *other}):
        yield from differences(one.get(name), other.get(name), f"{key}.{name}".lstrip("."))
