"""All runs of a folder: finds them, summarizes each once per change of its files, and marks copies."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from facedistill.errors import UserError, reason
from facedistill.reporting.cost_record import CostRow
from facedistill.reporting.run.pictures import RunPictures
from facedistill.reporting.run.summary import Accuracy, RunSummary, summarize
from facedistill.system.files import write_atomically
from facedistill.system.locks import holder

_VERSION = 2  # of the cache: add one when a summary holds something else for the same files
_FILES = ("config.yaml", "run.json", "results.json", "metrics.csv", "faces.npz", "cost.json")


def read_runs(runs_dir: Path, cache: Path | None = None) -> list[RunSummary]:
    """Summaries of all run folders directly inside `runs_dir`, by name, method, seed and id.

    A folder counts as a run when it has a config.yaml or a run.json, or is named like one, <name>-<8 hex digits>. A run
    that run.json calls running and that no process has locked was killed: its status is interrupted.

    Args:
        runs_dir: Folder of run folders.
        cache: File with the summaries of an earlier call. A run is read again when the size or the modification time
            of one of its files has changed.

    Raises:
        UserError: If there is no such folder or it cannot be listed.
    """
    try:
        folders = sorted(path for path in runs_dir.iterdir() if path.is_dir() and _is_run(path))
    except OSError as error:
        raise UserError(
            f"there is no folder of runs {runs_dir} ({reason(error)}); give the folder that runs_dir= named"
        ) from None
    known = _load(cache)
    runs, entries = [], {}
    for folder in folders:
        stamp = _stamp(folder)
        found = known.get(folder.name)
        run = _from_json(folder, found[1]) if found is not None and found[0] == stamp else None
        if run is None:
            run = summarize(folder)
            found = [stamp, _to_json(run)]
        entries[folder.name] = found
        if run.status == "running" and holder(folder / "run.lock") is None:
            run = replace(run, status="interrupted")
        runs.append(run)
    if cache is not None and any(known.get(name) is not entry for name, entry in entries.items()):
        with suppress(UserError):  # without a cache the next page takes longer
            write_atomically(cache, json.dumps({"version": _VERSION, "runs": entries}, separators=(",", ":")))
    runs = _with_copies(runs)
    return sorted(runs, key=lambda run: (run.name, run.method, run.seed or 0, run.id, run.folder.name))


def _is_run(path: Path) -> bool:
    named_like_one = re.search(r".-[0-9a-f]{8}$", path.name) is not None
    return named_like_one or (path / "config.yaml").is_file() or (path / "run.json").is_file()


def _with_copies(runs: list[RunSummary]) -> list[RunSummary]:
    """Folders of one id but the one that is named like it, or the first, are copies and named by their folder."""
    by_id: dict[str, list[RunSummary]] = {}
    for run in runs:
        by_id.setdefault(run.id, []).append(run)
    originals = {id(min(same, key=lambda run: run.folder.name != run.id)) for same in by_id.values()}
    return [run if id(run) in originals else replace(run, id=run.folder.name, copy_of=run.id) for run in runs]


def _stamp(folder: Path) -> list[list[Any]]:
    """Name, size and modification time of each file that a summary is made of."""
    scores = sorted((folder / "scores").glob("*.student.npz"))
    stamp = []
    for path in (*(folder / name for name in _FILES), *scores):
        with suppress(OSError):
            status = path.stat()
            stamp.append([path.name, status.st_size, status.st_mtime_ns])
    return stamp


def _load(cache: Path | None) -> dict[str, list[Any]]:
    """The entries of a cache; none if there is no such file or it is not one of this version."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8")) if cache is not None else {}
        if content["version"] == _VERSION:
            return {name: [stamp, summary] for name, (stamp, summary) in content["runs"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return {}


def _from_json(folder: Path, content: Any) -> RunSummary | None:
    try:
        parts = {
            "folder": folder,
            "accuracy": {name: _accuracy(**one) for name, one in content["accuracy"].items()},
            "pictures": RunPictures(**content["pictures"]),
            "problems": tuple(content["problems"]),
            "costs": tuple(CostRow(**row) for row in content["costs"]),
        }
        return RunSummary(**{**content, **parts})
    except (LookupError, TypeError, AttributeError):
        return None


def _accuracy(value: float, interval: list[float] | None, threshold: float | None) -> Accuracy:
    return Accuracy(value, (interval[0], interval[1]) if interval else None, threshold)


def _to_json(run: RunSummary) -> dict[str, Any]:
    content = {key: value for key, value in vars(run).items() if key not in ("folder", "copy_of")}
    accuracy = {name: vars(one) for name, one in run.accuracy.items()}
    costs = [vars(row) for row in run.costs]
    return {**content, "accuracy": accuracy, "pictures": vars(run.pictures), "costs": costs}
