"""Tables plan every run before one starts, run each in its own process, and keep what ended well."""

from __future__ import annotations

import json

import pytest

from facedistill.cli.main import main
from facedistill.errors import ConfigError
from facedistill.sweeps.job import plan_job
from facedistill.sweeps.launchers.local import LocalLauncher
from facedistill.sweeps.launchers.pool import execute
from facedistill.sweeps.tables.plan import plan, read_table
from facedistill.sweeps.tables.record import read_records, record_path, write_record
from facedistill.sweeps.tables.reproduce import _launcher

ROWS = """
title: Two rows
common: [debug=smoke, runs_dir={runs}]
images: 64
seeds: 2
metrics: [generated/accuracy]
rows:
  static: {{label: Static, overrides: [data.source.resampling=static]}}
  dynamic: {{label: Dynamic, overrides: [], seeds: 1}}
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "experiments" / "two"
    folder.mkdir(parents=True)
    (folder / "rows.yaml").write_text(ROWS.format(runs=tmp_path / "runs"))
    return folder


def test_first_seeds_come_first_and_every_run_has_its_own_identity(folder):
    runs = plan(read_table(folder)).runs
    assert [(run.row.name, run.seed) for run in runs] == [("static", 1), ("dynamic", 1), ("static", 2)]
    assert len({run.job.id for run in runs}) == 3
    assert runs[0].job.overrides[-2:] == ("images=64", "seed=1")
    assert [run.job.id for run in plan(read_table(folder)).runs] == [run.job.id for run in runs]
    assert len(plan(read_table(folder), seeds=3).runs) == 6
    assert {run.job.id for run in plan(read_table(folder), images=128).runs}.isdisjoint(
        {run.job.id for run in runs}
    )


def test_a_row_that_cannot_run_is_named_before_anything_starts(folder):
    text = (folder / "rows.yaml").read_text()
    (folder / "rows.yaml").write_text(text + "  broken: {overrides: [data.source.rho=-1]}\n")
    with pytest.raises(ConfigError) as error:
        plan(read_table(folder))
    assert str(error.value).startswith(f"{folder / 'rows.yaml'}: 1 row(s)\n  broken: 1 problem(s)")
    (folder / "rows.yaml").write_text(text + "  twin: {overrides: []}\n")
    with pytest.raises(ConfigError, match="  twin: is the same run as dynamic; change it, or leave it out"):
        plan(read_table(folder))
    (folder / "rows.yaml").write_text(text.partition("rows:")[0] + "rows: {}\n")
    with pytest.raises(ConfigError, match="rows is empty; give the table a row"):
        read_table(folder)
    (folder / "rows.yaml").write_text(text.replace("title", "titel"))
    with pytest.raises(ConfigError) as error:
        read_table(folder)
    assert str(error.value) == f"{folder / 'rows.yaml'}: unknown key titel; missing key title"
    with pytest.raises(ConfigError) as error:
        read_table(folder.parent / "three")
    assert str(error.value) == "TABLE=three: there is no such table; there are two"


def test_a_refusal_of_a_later_seed_alone_is_named(folder, monkeypatch):
    def refused(label, overrides, **options):
        if label == "static seed 2":
            raise ConfigError("its weights are not there")
        return plan_job(label, overrides, **options)

    monkeypatch.setattr("facedistill.sweeps.tables.plan.plan_job", refused)
    with pytest.raises(ConfigError, match=r"1 row\(s\)\n  static: its weights are not there$"):
        plan(read_table(folder))


@pytest.mark.parametrize("option", ["--seeds", "--images", "--slots"])
def test_a_number_of_the_command_that_is_not_above_0_is_refused(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "pocket", option, "0"])
    assert stop.value.code == 2
    assert f"{option}: expected a number above 0, got 0" in capsys.readouterr().err


def test_slots_are_those_of_the_launcher_that_is_named():
    assert _launcher([], 3).slots == 3
    assert _launcher(["launcher=local", "launcher.slots=2"], None).slots == 2
    with pytest.raises(ConfigError, match=r"^--slots 3: launcher=local has its own number"):
        _launcher(["launcher=local"], 3)


def test_a_failing_run_is_reported_and_leaves_the_others_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    runs = plan(read_table(folder)).runs[:2]
    for run in runs:
        run.job.config.images = 32  # after planning: the configuration is no longer the planned one
    broken = [run.job for run in runs]
    ended = []
    failed = execute(broken, LocalLauncher(slots=2), logs=tmp_path / "logs", finished=ended.append)
    assert ended == []
    assert len(failed) == 2
    assert all("; start the sweep again to plan it again" in sentence for sentence in failed)


def test_a_record_holds_what_the_table_needs(folder):
    run = plan(read_table(folder)).runs[0]
    run.job.folder.path.mkdir(parents=True)
    (run.job.folder.path / "config.yaml").write_text(
        "images: 64\nname: x\nmethod: {_target_: facedistill.methods.synthdistill.SynthDistill}\n"
    )
    (run.job.folder.path / "run.json").write_text(
        json.dumps({"id": run.job.id, "images_seen": 64, "licences": []})
    )
    (run.job.folder.path / "results.json").write_text(json.dumps({"student": {"protocols": {}}}))
    (run.job.folder.path / "metrics.csv").write_text("step,val/cosine,val/mse\n1,0.25,\n2,,\n3,0.5,0.1\n")
    assert write_record(folder, run) == record_path(folder, run.job)
    (record,) = read_records(folder)
    assert record["validation"] == {"cosine": 0.5, "mse": 0.1}
    assert (record["row"], record["seed"], record["id"], record["config"]["images"]) == (
        "static",
        1,
        run.job.id,
        64,
    )
