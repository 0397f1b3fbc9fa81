"""Where the runs of a table stand on this machine: to make, recorded and kept as they are, or not possible here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facedistill.config import result_relevant
from facedistill.runs.inputs import open_inputs
from facedistill.sweeps.tables.plan import Plan, PlannedRun

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """What is to be done for a table, and what cannot be done here.

    Attributes:
        waiting: Runs without a record that can be made here.
        blocked: Runs without a record that cannot, each with the reason.
        kept: A sentence for each recorded run that this machine cannot repeat, since its files are not here or are others.
    """

    waiting: tuple[PlannedRun, ...]
    blocked: tuple[tuple[PlannedRun, str], ...]
    kept: tuple[str, ...]

    @property
    def to_do(self) -> list[PlannedRun]:
        """All runs without a record."""
        return [*self.waiting, *(run for run, _ in self.blocked)]

    @property
    def sentences(self) -> list[str]:
        """One for each reason that blocks runs, with their names."""
        names: dict[str, list[str]] = {}
        for run, reason in self.blocked:
            names.setdefault(reason, []).append(_name(run))
        return [f"{', '.join(runs)}: {reason}" for reason, runs in names.items()]


def standing(planned: Plan, records: Sequence[Record]) -> Standing:
    """Compares the runs of a plan with the records of its table."""
    found = [(run, _record_of(run, records)) for run in planned.runs]
    others = {
        run.row.name: _other_files(run, record)
        for run, record in found
        if record is not None and run.job is not None and record["id"] != run.job.id
    }
    waiting, blocked, kept = [], [], []
    for run, record in found:
        other = others.get(run.row.name)
        if record is None and run.job is None:
            blocked.append((run, "; ".join(run.missing)))
        elif record is None and other:
            blocked.append((
                run, f"the row is recorded with another {other}, and a table averages runs of equal files only; to make the "
                "row here, delete its records",
            ))  # fmt: skip
        elif record is None:
            waiting.append(run)
        elif run.job is None:
            kept.append(
                f"{_name(run)}: {record['id']} is kept; it cannot be repeated here: {'; '.join(run.missing)}"
            )
        elif record["id"] != run.job.id:
            kept.append(
                f"{_name(run)}: {record['id']} is kept; it was recorded with another {other}, and would be {run.job.id} here"
            )
    return Standing(tuple(waiting), tuple(blocked), tuple(kept))


def _record_of(run: PlannedRun, records: Sequence[Record]) -> Record | None:
    """The record of its run id or else, made with other or absent files, that of its row and configuration."""
    own = [record for record in records if record["row"] == run.row.name]
    wanted = json.loads(json.dumps(result_relevant(run.config)))
    same_id = [record for record in own if run.job is not None and record["id"] == run.job.id]
    return next(iter([*same_id, *(record for record in own if record["config"] == wanted)]), None)


def _other_files(run: PlannedRun, record: Record) -> str:
    """Names of the files that differ between a record and this machine; older records name only their faces."""
    here, stored = open_inputs(run.config).origin.files, record.get("stored_faces") or {}
    before = record.get("files") or ({"data": stored["fingerprint"]} if "fingerprint" in stored else {})
    differ = [name for name in here if name in before and before[name] != here[name]]
    return " and ".join(
        differ or [name for name in here if name not in before and name.endswith("/directions")]
    ) or "file of weights or faces"  # fmt: skip


def _name(run: PlannedRun) -> str:
    return f"{run.row.name} seed {run.seed}"
