"""The dashboard reads again what has changed, and `--watch` repeats it."""

import os
import re
import shutil
from pathlib import Path

import pytest

from facedistill.cli.dashboard import main
from facedistill.reporting.dashboard import runs
from facedistill.reporting.run.summary import summarize
from tests.reporting.dashboard.dashboard_page import written
from tests.reporting.small_runs import write_many, write_small_run


def test_a_run_is_read_again_when_one_of_its_files_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(tmp_path, 3, 20)
    first = written(tmp_path)
    read = []
    monkeypatch.setattr(runs, "summarize", lambda folder: read.append(folder.name) or summarize(folder))
    assert (written(tmp_path).html, read) == (first.html, [])
    changed = tmp_path / "many-00000001"
    with (changed / "metrics.csv").open("a") as file:
        file.write("21,5000,0.1,0.9,0.95\n")
    assert written(tmp_path).rows != first.rows
    assert read == [changed.name]
    for broken in ("{", '{"version": 1, "runs": []}', '{"version": 1, "runs": {"many-00000001": 5}}'):
        (tmp_path / ".dashboard.html.cache").write_text(broken)
        written(tmp_path)
    assert len(read) == 1 + 3 * 3


def test_only_the_runs_that_changed_last_bring_their_pictures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facedistill.reporting.dashboard.page._MOST_PICTURED", 1)
    older = shutil.copytree(run, tmp_path / "older-0000000f")
    os.utime(older / "run.json", (1, 1))
    page = written(tmp_path)
    assert {one["id"]: bool(one["faces"]) for one in page.data["runs"]} == {
        "demo-1a2b3c4d": True,
        older.name: False,
    }
    assert "drawn of the 1 runs that changed last" in page.html


def test_watching_writes_the_page_until_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small_run(tmp_path / "a-00000001")
    page, seen = tmp_path / "dashboard.html", []

    def sleep(seconds: float) -> None:
        seen.append((seconds, re.findall(r'data-refresh="(\d+)"', page.read_text())))
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("facedistill.cli.dashboard.time.sleep", sleep)
    assert main([str(tmp_path), "--watch", "5"]) == 0
    assert seen == [(5, ["5"]), (5, ["5"])]
    assert 'data-refresh="0"' in page.read_text()
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--watch", "0"])
