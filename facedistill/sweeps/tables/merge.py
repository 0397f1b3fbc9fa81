"""Takes the records that another machine made of the same table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedistill.errors import UserError
from facedistill.reporting.record import NETWORKS, Results
from facedistill.sweeps.tables.record import differences, read_record
from facedistill.system.files import write_atomically


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes:
        taken: Ids of the runs whose records are new here.
        known: How many were here already, with the same results.
        conflicts: A sentence for each run that both folders have with different results; ours stays.
    """

    taken: tuple[str, ...]
    known: int
    conflicts: tuple[str, ...]


def merge_records(folder: Path, other: Path, rows: set[str]) -> Merged:
    """Copies into `folder`/records what it lacks; no record is ever replaced.

    Records are the same run where their ids are equal: the id is the hash of all that can change a result.

    Args:
        folder: `experiments/<table>`.
        other: The same folder from another machine, or its `records`.
        rows: Names of the table's rows.

    Raises:
        UserError: If there is no record in `other`, a file is none, or one is of a row that the table has not;
            nothing is taken then.
    """
    paths = sorted((other / "records" if (other / "records").is_dir() else other).glob("*.json"))
    if not paths:
        raise UserError(
            f"{other}: holds no records; give a table's folder from another machine, or its records"
        )
    records = [(path, read_record(path)) for path in paths]
    for path, record in records:
        if record["row"] not in rows:
            raise UserError(
                f"{path}: is of the row {record['row']!r}, which {folder / 'rows.yaml'} does not have"
            )
    taken, known, conflicts = [], 0, []
    for path, record in records:
        target = folder / "records" / f"{record['id']}.json"
        ours = read_record(target) if target.exists() else None
        if ours is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, json.dumps(record, indent=1, sort_keys=True) + "\n")
            taken.append(record["id"])
        elif (figure := next(differences(_figures(ours), _figures(record)), None)) is None:
            known += 1
        else:
            name, our_value, their_value = figure
            conflicts.append(
                f"{record['row']} seed {record['seed']}: {path} and {target} are the same run with different results "
                f"({name} {their_value} and {our_value}); ours is kept, delete it to take the other"
            )
    return Merged(tuple(taken), known, tuple(conflicts))


def _figures(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a record; time, machine and format of the file are not compared."""
    found = Results.from_json(record["results"], f"record {record['id']}")
    results = {network: {"protocols": found.network(network).protocols} for network in NETWORKS}
    return {"validation": record.get("validation", {}), "results": results}
