"""Makes the missing runs of a table, and renders it from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedistill.config import compose
from facedistill.errors import ConfigError, UserError
from facedistill.reporting.table.render import render
from facedistill.runs.evaluate import evaluate_run
from facedistill.runs.sources import instantiate
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.base import Launcher
from facedistill.sweeps.launchers.job_files import KubernetesFile, SkyPilotFile
from facedistill.sweeps.launchers.local import LocalLauncher
from facedistill.sweeps.launchers.pool import execute
from facedistill.sweeps.tables.forecast import absent_columns, forecast, summary
from facedistill.sweeps.tables.merge import merge_records
from facedistill.sweeps.tables.plan import PlannedRun, Table, chosen_rows, plan, read_table
from facedistill.sweeps.tables.record import read_records, write_record
from facedistill.sweeps.tables.standing import standing
from facedistill.sweeps.tables.unmeasured import unmeasured
from facedistill.system.messages import print_message


def reproduce(
    folder: Path,
    *,
    rows: str | None,
    images: int | None,
    seeds: int | None,
    slots: int | None,
    overrides: Sequence[str] = (),
    dry: bool = False,
    render_only: bool = False,
    merge: Path | None = None,
) -> bool:
    """Plans, runs and renders the table in `folder`.

    Args:
        folder: A folder of experiments/ with a rows.yaml.
        rows: Only these rows, separated by commas.
        images: Another image budget per run.
        seeds: Seeds of every row.
        slots: Runs at a time on this machine; None: half its cores.
        overrides: `launcher=ray` and its settings, to make the runs elsewhere.
        dry: Prints what would run, what it would cost and what is missing, and stops.
        render_only: Renders from the existing records, and stops.
        merge: A folder of records of this table from another machine; takes them, and renders.

    Returns:
        Whether every run is recorded and no record is in conflict.

    Raises:
        UserError: If the records do not fit each other, or no run is recorded and none can start here.
    """
    table = read_table(folder)
    records = read_records(
        table.folder
    )  # records that do not fit each other are refused before anything runs
    failed: list[str] = []
    blocked = False
    if merge:
        failed = _merge(table, merge)
    elif not render_only:
        launcher = _launcher(overrides, slots)
        planned = plan(chosen_rows(table, rows), images=images, seeds=seeds, num_gpus=launcher.num_gpus)
        now = standing(planned, records)
        blocked = bool(now.blocked)
        print_message("\n".join([summary(table, planned, now.to_do, images), *now.kept]))
        lacking = unmeasured(table, planned, records)
        if dry:
            print_message(_lacking_sentence(lacking))
            print_message(forecast(planned, now))
            return True
        if len(now.blocked) == len(planned.runs):
            raise UserError(
                f"{table.folder.name}: {len(now.blocked)} run(s) cannot start here, for {'; '.join(planned.missing)}; or "
                "choose other rows with --rows"
            )
        _measure(table, lacking)
        failed = _run(table, now.waiting, launcher, images)
        if failed:
            print_message(
                "\n".join([f"{len(failed)} run(s) failed; the table shows them as not measured", *failed])
            )
        if now.blocked:
            print_message("\n".join([f"{len(now.blocked)} run(s) cannot start here", *now.sentences]))
    written = render(table.folder, read_records(table.folder), images)
    print_message("\n".join(str(path) for path in written))
    return not failed and not blocked


def _merge(table: Table, other: Path) -> list[str]:
    merged = merge_records(table.folder, other, {row.name for row in table.rows})
    counts = f"{merged.known} here already, {len(merged.conflicts)} in conflict"
    print_message(
        "\n".join([f"{len(merged.taken)} record(s) taken from {other}, {counts}", *merged.conflicts])
    )
    return list(merged.conflicts)


def _lacking_sentence(lacking: Sequence[tuple[PlannedRun, Sequence[str]]]) -> str:
    names = ", ".join(dict.fromkeys(name for _, missing in lacking for name in missing))
    return f"{len(lacking)} recorded run(s) lack {names}, whose files are available now" if lacking else ""


def _measure(table: Table, lacking: Sequence[tuple[PlannedRun, Sequence[str]]]) -> None:
    """Evaluates recorded runs on all face sets, and prints how many students are missing."""
    print_message(_lacking_sentence(lacking))
    gone = 0
    for run, _ in lacking:
        assert run.job is not None
        if not run.job.folder.is_finished:
            gone += 1
            continue
        print_message(f"evaluating {run.job.label}")
        with run.job.folder.held():
            evaluate_run(run.job.folder, run.config.evaluation)
        write_record(table.folder, run)
    if gone:
        print_message(f"{gone} of their students are not in runs/; delete their records to train them again")


def _launcher(overrides: Sequence[str], slots: int | None) -> Launcher:
    for text in overrides:
        if text.split("=")[0].split(".")[0] != "launcher":
            raise ConfigError(
                f"{text}: rows.yaml says what runs; only launcher=… and its settings can be given"
            )
    if not overrides:
        return LocalLauncher(slots=slots)
    if slots is not None:
        raise ConfigError(
            f"--slots {slots}: {overrides[0]} has its own number of runs at a time; write launcher.slots={slots} for "
            "launcher=local, or launcher.max_jobs for ray and submitit"
        )
    launcher = instantiate(compose("train", list(overrides)).launcher)
    if isinstance(launcher, SkyPilotFile | KubernetesFile):
        raise ConfigError(
            f"{overrides[0]}: renders job files of train -m; use launcher=local, ray or submitit"
        )
    chosen: Launcher = launcher
    return chosen


def _run(table: Table, waiting: Sequence[PlannedRun], launcher: Launcher, images: int | None) -> list[str]:
    print_message(absent_columns(waiting))
    by_id: dict[str, PlannedRun] = {}
    for run in waiting:
        assert run.job is not None
        if run.job.folder.is_finished:  # trained by hand, or before the record was written
            write_record(table.folder, run)
        else:
            by_id[run.job.id] = run

    def keep(job: Job) -> None:
        write_record(table.folder, by_id[job.id])
        render(table.folder, read_records(table.folder), images)

    jobs = [run.job for run in by_id.values() if run.job]
    return execute(jobs, launcher, logs=Path("runs") / "logs", finished=keep)
