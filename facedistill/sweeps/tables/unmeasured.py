"""Recorded runs that were not measured on a face set of the table, although its files are available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from facedistill.runs.protocols import open_configured_protocols
from facedistill.sweeps.tables.plan import Plan, PlannedRun, Table

_NO_FACE_SET = ("validation", "generated", "robustness")  # need no face set of their own


def unmeasured(
    table: Table, planned: Plan, records: Sequence[Mapping[str, Any]]
) -> list[tuple[PlannedRun, list[str]]]:
    """Recorded runs, each with the names of its lacking face sets; runs that cannot start here are left out.

    Args:
        table: Its metrics say which face sets are asked for.
        planned: Its runs.
        records: Its records.
    """
    wanted = dict.fromkeys(metric.split("/")[0] for metric in table.metrics)
    measured = {record["id"]: record["results"]["student"]["protocols"] for record in records}
    available: dict[str, tuple[str, ...]] = {}
    lacking = []
    for run in planned.runs:
        if run.job is None or run.job.id not in measured:
            continue
        missing = [name for name in wanted if name not in (*_NO_FACE_SET, *measured[run.job.id])]
        if missing:
            settings = OmegaConf.to_yaml(run.config.evaluation, resolve=True)
            if settings not in available:
                available[settings] = tuple(
                    protocol.name for protocol in open_configured_protocols(run.config)[0]
                )
            missing = [
                name for name in missing if name.startswith(available[settings])
            ]  # IJB-C's are ijbc_n0d0f0, …
        if missing:
            lacking.append((run, missing))
    return lacking
