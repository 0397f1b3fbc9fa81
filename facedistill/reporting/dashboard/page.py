"""Writes the dashboard: one self-contained page on all runs of a folder, to filter, sort and compare."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from facedistill.errors import UserError
from facedistill.evaluation.protocols.titles import in_order, protocol_title
from facedistill.reporting.cost_record import Condition, CostRow, common_condition, is_accurate, row_of
from facedistill.reporting.dashboard.runs import read_runs
from facedistill.reporting.numbers import is_number, percent, percent_interval, rate, whole
from facedistill.reporting.pages import templates
from facedistill.reporting.run.summary import Accuracy, RunSummary
from facedistill.system.files import write_atomically

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_SCRIPTS = ("charts.js", "compare.js", "latency.js", "table.js")
_FILTERS = ("method", "backbone", "data", "strategy", "status")
_ALWAYS_SHOWN = ("lfw", "generated")
_MISSING = "—"
_LATENCY = "ms a face"
_MOST_PICTURED = 100  # a page of 300 runs with pictures would have 14 MB


@dataclass(frozen=True)
class Cell:
    """What a cell of the table shows, what it is sorted by, small print, and its CSS class."""

    value: str
    order: float | str = ""
    remark: str = ""
    kind: str = "number"


@dataclass(frozen=True)
class Line:
    """One run in the table."""

    run: RunSummary
    report: str
    cells: tuple[Cell, ...]
    search: str


def write_dashboard(runs_dir: Path, out: Path, refresh_s: int = 0) -> list[RunSummary]:
    """Writes the page `out` from the files of the run folders inside `runs_dir` alone.

    Links to the runs' report.html are relative to `out`. The same files give the same bytes. What a run's files say is
    kept in a hidden file next to the page and read again when they change.

    Args:
        runs_dir: Folder of run folders.
        out: The page.
        refresh_s: Seconds after which a browser loads the page again; 0 for never.

    Returns:
        The runs on the page, damaged ones among them.

    Raises:
        UserError: If there is no such folder, it holds no run, or `out` cannot be written.
    """
    runs = read_runs(runs_dir, out.with_name(f".{out.name}.cache"))
    if not runs:
        raise UserError(f"{runs_dir} holds no run; give the folder that runs_dir= named")
    write_atomically(out, render(runs, out.absolute().parent, refresh_s))
    return runs


def render(runs: Sequence[RunSummary], page_dir: Path, refresh_s: int = 0) -> str:
    """The page as text, for a file inside `page_dir`."""
    script = "\n".join(["", *((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)])
    protocols = in_order([*_ALWAYS_SHOWN, *(name for run in runs for name in run.accuracy)])
    condition = common_condition(row for run in runs for row in run.costs)
    return (
        templates(__file__)
        .get_template("page.html")
        .render(
            lines=[_line(run, protocols, page_dir, condition) for run in runs],
            columns=_columns(protocols),
            filters={name: sorted({getattr(run, name) for run in runs}) for name in _FILTERS},
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            data=Markup(_embedded(_data(runs, protocols))),
            refresh_s=refresh_s,
            most_pictured=_MOST_PICTURED,
            num_damaged=sum(bool(run.problems) for run in runs),
        )
    )


def _columns(protocols: Sequence[str]) -> list[tuple[str, bool]]:
    """Heading of each column after the run's, and whether it holds numbers."""
    accuracy = [(f"{protocol_title(name)} accuracy, %", True) for name in protocols]
    numbers = [*accuracy, ("Validation cosine", True), ("Images", True), ("Images/s", True), (_LATENCY, True)]
    words = [(name, False) for name in ("Backbone", "Data", "Strategy")]
    return [("Method", False), ("Seed", True), ("Status", False), *numbers, *words]


def _line(run: RunSummary, protocols: Sequence[str], page_dir: Path, condition: Condition | None) -> Line:
    cells = (
        _word(run.method),
        _cell(run.seed, str(run.seed)),
        Cell(run.status, run.status.lower(), kind=f"status {run.status}"),
        *(_accuracy_cell(run.accuracy.get(name)) for name in protocols),
        _cell(run.cosine, f"{round(run.cosine or 0, 3) or 0:.3f}"),
        _cell(run.images, whole(run.images)),
        _cell(run.images_per_s, rate(run.images_per_s)),
        _latency_cell(row_of(run.costs, condition)),
        *map(_word, (run.backbone, run.data, run.strategy)),
    )
    search = " ".join([run.id, run.name, run.folder.name, *(cell.value for cell in cells), *run.problems])
    return Line(run, _report_link(run.folder, page_dir), cells, search.lower())


def _word(text: str) -> Cell:
    return Cell(text, text.lower(), kind="word")


def _cell(value: float | None, text: str) -> Cell:
    return Cell(text, value) if is_number(value) else Cell(_MISSING)  # type: ignore[arg-type]


def _accuracy_cell(accuracy: Accuracy | None) -> Cell:
    if accuracy is None:
        return Cell(_MISSING)
    return Cell(
        percent(accuracy.value).removesuffix(" %"), accuracy.value, percent_interval(accuracy.interval)
    )


def _latency_cell(row: CostRow | None) -> Cell:
    return Cell(f"{row.one_ms:.2f}", row.one_ms, row.measured_on) if row else Cell(_MISSING)


def _report_link(folder: Path, page_dir: Path) -> str:
    """The path of a run's report as a link in a page inside `page_dir`; empty where there is no report."""
    report = folder.absolute() / "report.html"
    return quote(Path(os.path.relpath(report, page_dir)).as_posix()) if report.is_file() else ""


def _data(runs: Sequence[RunSummary], protocols: Sequence[str]) -> dict[str, Any]:
    varying = _varying(runs)
    pictured = {run.folder for run in sorted(runs, key=_changed, reverse=True)[:_MOST_PICTURED]}
    return {
        "protocols": [[name, protocol_title(name)] for name in protocols],
        "runs": [
            {
                "id": run.id,
                "method": run.method,
                "seed": run.seed,
                "accuracy": {p: [a.value, *(a.interval or ())] for p, a in run.accuracy.items()},
                "curves": {name: curve for name, curve in run.curves.items() if curve[0]},
                "thresholds": {p: a.threshold for p, a in run.accuracy.items() if a.threshold is not None},
                "faces": run.pictures.faces if run.folder in pictured else None,
                "scores": run.pictures.scores if run.folder in pictured else {},
                "rocs": run.pictures.rocs if run.folder in pictured else {},
                "latencies": {row.measured_on: row.one_ms for row in run.costs if is_accurate(row)},
                "settings": {key: run.settings[key] for key in varying if key in run.settings},
            }
            for run in runs
        ],
    }


def _changed(run: RunSummary) -> float:
    record = run.folder / "run.json"
    return record.stat().st_mtime if record.is_file() else 0.0


def _varying(runs: Sequence[RunSummary]) -> list[str]:
    """Settings that are not the same in all readable runs, in the configuration's order."""
    settings = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for own in settings for key in own)
    return [key for key in keys if len({own.get(key) for own in settings}) > 1]


def _embedded(content: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
