"""The summary of `--dry`: runs to do, their cost, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from facedistill.sweeps.tables.estimate import DEVICE, HOW, image_cost
from facedistill.sweeps.tables.missing import absent_benchmarks, fetched_at_first_run
from facedistill.sweeps.tables.plan import Plan, PlannedRun, Table
from facedistill.sweeps.tables.standing import Standing


def summary(table: Table, plan: Plan, waiting: Sequence[PlannedRun], images: int | None = None) -> str:
    """One line: rows, runs, budget, what is recorded and what is to do."""
    return (
        f"{table.title}: {len({run.row.name for run in plan.runs})} rows, {len(plan.runs)} runs of {images or table.images:,} images, "
        f"{len(plan.runs) - len(waiting)} recorded, {len(waiting)} to do"
    )


def forecast(plan: Plan, now: Standing) -> str:
    """Cost and missing files of the runs without a record; empty if there is none."""
    waiting = now.to_do
    if not waiting:
        return ""
    others = [sentence for sentence in now.sentences if not sentence.endswith(plan.missing)]
    fetched = _list("fetched at the first run", _of_all(waiting, fetched_at_first_run))
    parts = [_costs(waiting), _list("missing", [*plan.missing, *others]), fetched, absent_columns(waiting)]
    return "\n".join(part for part in parts if part)


def absent_columns(waiting: Sequence[PlannedRun]) -> str:
    """Benchmarks that the runs would not be measured on; empty where all are here."""
    absent = _of_all(waiting, absent_benchmarks)
    return _list('not here, their columns will read "not measured"', absent)


def _costs(waiting: Sequence[PlannedRun]) -> str:
    runs: dict[str, list[PlannedRun]] = {}
    for run in waiting:
        runs.setdefault(run.row.name, []).append(run)
    lines, total = [], 0.0
    width = max(map(len, runs))
    for name, own in runs.items():
        cost = image_cost(own[0].config)
        hours = cost.gpu_hours(own[0].config.images)
        total += len(own) * hours
        parts = " + ".join(
            f"{_giga(macs)} {what}"
            for what, macs in (("student", cost.student), ("teacher", cost.teacher), ("generator", cost.generator))
            if macs
        )  # fmt: skip
        lines.append(f"  {name:{width}}  {len(own)} x {_hours(hours)} h  {parts} GMAC an image, forward")
    return "\n".join(
        [f"estimated, not measured: {_hours(total)} GPU-hours on {DEVICE} a run", *lines, f"  {HOW}"]
    )


def _hours(hours: float) -> str:
    if math.isnan(hours):
        return "unknown"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.2g}"


def _giga(macs: float) -> str:
    return "unknown" if math.isnan(macs) else f"{macs / 1e9:.3g}"


def _of_all(waiting: Sequence[PlannedRun], ask: Callable[[DictConfig], list[str]]) -> list[str]:
    """What each row has to say, every sentence once."""
    configs = {run.row.name: run.config for run in waiting}
    return list(dict.fromkeys(sentence for config in configs.values() for sentence in ask(config)))


def _list(title: str, sentences: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {sentence}" for sentence in sentences)]) if sentences else ""
