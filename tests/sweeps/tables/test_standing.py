"""Recorded runs whose files are not here, or are others, stay in their table; the other rows run."""

from __future__ import annotations

import json

import pytest

from facedistill.assets import read_card
from facedistill.cli.main import main
from facedistill.config import result_relevant
from facedistill.runs.sources import directions_path
from facedistill.sweeps.tables.plan import plan, read_table
from facedistill.sweeps.tables.record import read_records
from facedistill.sweeps.tables.standing import standing

ROWS = """
title: Three rows
common: [debug=smoke, runs_dir={runs}]
images: 64
seeds: 1
metrics: [generated/accuracy]
files: {{unlabeled.tar: photographs}}
rows:
  plain: {{overrides: []}}
  turned: {{label: Turned, overrides: [data.source.yaw=45]}}
  mixed: {{label: Mixed, overrides: [data=mixed, 'data.path=${{oc.env:FACEDISTILL_DATA}}/unlabeled.tar']}}
"""
KEPT = "turned seed 1: smoke-elsewhere is kept; it "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEDISTILL_DATA", str(tmp_path / "data"))
    folder = tmp_path / "experiments" / "three"
    (tmp_path / "data").mkdir()
    (folder / "records").mkdir(parents=True)
    (folder / "rows.yaml").write_text(ROWS.format(runs=tmp_path / "runs"))
    return folder


def stand(folder, **options):
    return standing(plan(read_table(folder), **options), read_records(folder))


def estimate_directions():
    path = directions_path(read_card("mobilestylegan"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"estimated on this machine")


def keep_record_of_another_machine(folder, name, run_id, **content):
    (run,) = [run for run in plan(read_table(folder)).runs if run.row.name == name]
    record = {
        "row": name, "seed": 1, "id": run_id, "config": result_relevant(run.config), **content,
        "results": {"student": {"protocols": {"generated": {"accuracy": 0.875}}}},
    }  # fmt: skip
    (folder / "records" / f"{run_id}.json").write_text(json.dumps(record))


def test_a_run_without_its_files_is_blocked_unless_it_is_recorded(folder):
    now = stand(folder)
    assert [run.row.name for run in now.waiting] == ["plain"]
    turned, mixed = now.sentences
    assert turned.startswith(
        "turned seed 1: data.source.yaw=45: the directions of mobilestylegan are not estimated yet"
    )
    assert "unlabeled.tar is not there: put photographs there" in mixed
    keep_record_of_another_machine(folder, "turned", "smoke-elsewhere")
    now = stand(folder)
    assert [run.row.name for run, _ in now.blocked] == ["mixed"]
    assert now.kept[0].startswith(f"{KEPT}cannot be repeated here: data.source.yaw=45: the directions")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "mobilestylegan/directions"),
        ({"files": {"mobilestylegan/directions": "0", "w600k_mbf/x": "0"}}, "mobilestylegan/directions"),
        ({"files": {"data": "0"}}, "mobilestylegan/directions"),
    ],
)
def test_a_run_recorded_with_another_file_is_kept_and_its_row_not_mixed(folder, content, what):
    estimate_directions()
    keep_record_of_another_machine(folder, "turned", "smoke-elsewhere", **content)
    (here,) = [run.job.id for run in plan(read_table(folder)).runs if run.row.name == "turned"]
    now = stand(folder, seeds=2)
    assert now.kept == (f"{KEPT}was recorded with another {what}, and would be {here} here",)
    assert now.sentences[1].startswith(
        f"turned seed 2: the row is recorded with another {what}, and a table averages"
    )
    assert [(run.row.name, run.seed) for run in now.waiting] == [("plain", 1), ("plain", 2)]


def test_the_command_runs_what_it_can_and_its_exit_code_says_if_a_row_is_missing(folder, monkeypatch, capsys):
    estimate_directions()
    keep_record_of_another_machine(folder, "turned", "smoke-elsewhere")
    started = []
    monkeypatch.setattr(
        "facedistill.sweeps.tables.reproduce.execute",
        lambda jobs, *a, **k: [started.append(j.label) for j in jobs][:0],
    )
    command = ["reproduce", "three", "--experiments", str(folder.parent)]
    code = main(command)
    said = capsys.readouterr().err
    assert code == 1, said
    assert started == ["plain seed 1"]
    assert f"{KEPT}was recorded with another mobilestylegan/directions" in said
    assert "1 run(s) cannot start here\nmixed seed 1: data.path=" in said
    table = (folder / "table.md").read_text()
    assert "| Turned † | 87.50 | 1 | elsewhere |" in table
    assert "† Recorded with files that are not in the repository." in table
    assert "Turned: directions of the generator, estimated where the run was made." in table
    assert main([*command, "--rows", "turned"]) == 0
    assert main([*command, "--rows", "mixed"]) == 2
    assert len(started) == 1
