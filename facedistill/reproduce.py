"""`facedistill reproduce`: runs what a table still lacks, and renders it from its records."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from facedistill.errors import UserError
from facedistill.launch.job import Job
from facedistill.launch.local import execute, gpu_ids
from facedistill.reporting.comparison_files import render
from facedistill.tables.merge import merge_records
from facedistill.tables.plan import PlannedRun, Table, plan, read_table
from facedistill.tables.record import read_records, record_path, write_record


def main(arguments: Sequence[str]) -> int:
    """Plans, runs and renders one table."""
    parsed = _parser().parse_args(arguments)
    table = read_table(Path(parsed.experiments) / parsed.table)
    failed: list[str] = []
    read_records(table.folder)  # records that do not belong together are told before anything runs
    if parsed.merge:
        failed = _merge(table, Path(parsed.merge))
    elif not parsed.render:
        runs = plan(table, images=parsed.images, seeds=parsed.seeds, num_gpus=len(gpu_ids()))
        missing = [run for run in runs if not record_path(table.folder, run).exists()]
        _say(_summary(table, runs, missing))
        if parsed.dry:
            return 0
        failed = _run(table, missing, parsed)
        if failed:
            _say("\n".join([f"{len(failed)} run(s) failed; the table shows them as not measured", *failed]))
    written = render(table.folder, read_records(table.folder), parsed.images)
    _say("\n".join(str(path) for path in written))
    return 1 if failed else 0


def _merge(table: Table, other: Path) -> list[str]:
    merged = merge_records(table.folder, other, {row.name for row in table.rows})
    counts = f"{merged.known} here already, {len(merged.conflicts)} in conflict"
    _say("\n".join([f"{len(merged.taken)} record(s) taken from {other}, {counts}", *merged.conflicts]))
    return list(merged.conflicts)


def _run(table: Table, missing: Sequence[PlannedRun], parsed: argparse.Namespace) -> list[str]:
    for run in missing:
        if run.job.folder.is_finished:  # trained by hand, or before the record was written
            write_record(table.folder, run)
    waiting = {run.job.id: run for run in missing if not record_path(table.folder, run).exists()}

    def keep(job: Job) -> None:
        write_record(table.folder, waiting[job.id])
        render(table.folder, read_records(table.folder), parsed.images)

    jobs = [run.job for run in waiting.values()]
    return execute(jobs, slots=parsed.slots, logs=Path("runs") / "logs", finished=keep, gpus=gpu_ids())


def _summary(table: Table, runs: Sequence[PlannedRun], missing: Sequence[PlannedRun]) -> str:
    if not runs:
        raise UserError(f"{table.folder}: has no run; give it rows")
    return (
        f"{table.title}: {len(table.rows)} rows, {len(runs)} runs of {table.images:,} images, "
        f"{len(runs) - len(missing)} recorded, {len(missing)} to do"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facedistill reproduce", description=__doc__)
    parser.add_argument(
        "table", nargs="?", default="pocket", help="a folder of experiments/ with a rows.yaml"
    )
    parser.add_argument("--images", type=int, help="another image budget per run")
    parser.add_argument("--seeds", type=int, help="seeds of every row")
    parser.add_argument(
        "--slots", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="runs at a time"
    )
    parser.add_argument("--dry", action="store_true", help="say what would run, and stop")
    parser.add_argument("--render", action="store_true", help="render from the records there are, and stop")
    parser.add_argument(
        "--merge",
        metavar="FOLDER",
        help="take the records that another machine made of this table, and render",
    )
    parser.add_argument("--experiments", default="experiments", help=argparse.SUPPRESS)
    return parser


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
