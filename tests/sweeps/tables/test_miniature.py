"""Every table of a paper starts and runs to its rendered files, made small on drawn faces and a random teacher."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.runs.assembly import assemble
from facedistill.runs.inputs import open_inputs
from facedistill.runs.train import train
from facedistill.sweeps.tables.plan import plan, read_table
from tests.helpers.assets import asset_or_skip
from tests.sweeps.tables.miniature import EXPERIMENTS, IMAGES, draw_machine, shrink_table, thin_networks

PAPERS = sorted(  # the other tables have the pocket teacher
    path.parent.name for path in EXPERIMENTS.glob("*/rows.yaml") if "teachers/" in path.read_text()
)

pytestmark = pytest.mark.assets


@pytest.fixture(autouse=True)
def _generator():
    asset_or_skip("mobilestylegan")


def here_instead(monkeypatch):
    """Trains in this process: a process tree per run, which other tests are about, takes ten seconds to import."""

    def execute(jobs, launcher, *, finished, **options):
        for job in jobs:
            train(compose("train", job.overrides), job.overrides)
            finished(job)
        return []

    thin_networks(monkeypatch)
    monkeypatch.setattr("facedistill.sweeps.tables.reproduce.execute", execute)


def command(folder, *options):
    return main(["reproduce", folder.name, "--experiments", str(folder.parent), "--seeds", "1", *options])


def cells(folder):
    with (folder / "results.csv").open() as file:
        return {(row["row"], row["metric"]): row for row in csv.DictReader(file)}


def test_a_row_of_ekds_table_runs_to_its_rendered_cell(tmp_path, monkeypatch, capsys):
    draw_machine(tmp_path, monkeypatch, ["lfw"])
    here_instead(monkeypatch)
    folder = shrink_table("ekd", tmp_path)
    assert command(folder, "--rows", "ekd") == 0
    said = capsys.readouterr().err
    assert 'not here, their columns will read "not measured":' in said
    assert said.count("ijbc is not here: put a folder IJBC with loose_crop and meta") == 1
    (path,) = (folder / "records").glob("ekd-*.json")
    record = json.loads(path.read_text())
    assert (record["row"], record["images_seen"]) == ("ekd", IMAGES)
    measured = cells(folder)
    accuracy = record["results"]["student"]["protocols"]["lfw"]["accuracy"]
    assert float(measured["ekd", "lfw/accuracy"]["value"]) == pytest.approx(accuracy)
    assert measured["ekd", "lfw/accuracy"]["published"] == "0.996"
    assert measured["ekd", "ijbc_n0d0f0/tar@1e-4"]["value"] == "not measured"
    assert measured["kd", "lfw/accuracy"]["value"] == "not measured"
    assert {"table.md", "table.tex", "table.html", "figures"} <= {file.name for file in folder.iterdir()}
    monkeypatch.setattr(
        "facedistill.sweeps.tables.reproduce.execute",
        lambda jobs, launcher, **options: pytest.fail("ran again") if jobs else [],
    )
    assert command(folder, "--rows", "ekd") == 0
    measure_what_was_not_here(folder, path, record, tmp_path, monkeypatch, capsys)


def measure_what_was_not_here(folder, path, record, tmp_path, monkeypatch, capsys):
    """A face set that came after the run was recorded is measured on its student, or the student is missed."""
    del record["results"]["student"]["protocols"]["lfw"]
    path.write_text(json.dumps(record))
    capsys.readouterr()
    assert command(folder, "--rows", "ekd", "--dry") == 0
    assert "1 recorded run(s) lack lfw, whose files are available now" in capsys.readouterr().err
    assert command(folder, "--rows", "ekd") == 0
    assert "evaluating ekd seed 1" in capsys.readouterr().err
    assert cells(folder)["ekd", "lfw/accuracy"]["value"] != "not measured"
    path.write_text(json.dumps(record))
    (run,) = (tmp_path / "runs").glob("ekd-*")
    run.rename(tmp_path / "elsewhere")
    assert command(folder, "--rows", "ekd") == 0
    assert "1 of their students are not in runs/; delete their records" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_every_row_of_every_table_trains(name, tmp_path, monkeypatch):
    draw_machine(tmp_path, monkeypatch, [])
    thin_networks(monkeypatch)
    planned = plan(read_table(shrink_table(name, tmp_path)), seeds=1)
    assert planned.missing == ()
    for run in planned.runs:
        inputs = open_inputs(run.config)
        inputs.folder.create()
        parts = assemble(run.config, inputs)
        parts.trainer.fit(parts.method, datamodule=parts.data)
        assert parts.method.images_seen == IMAGES, run.row.name
        assert torch.isfinite(parts.trainer.callback_metrics["train/loss"]), run.row.name
        parts.data.source.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_the_first_row_of_every_table_runs_to_its_rendered_cells(name, tmp_path, monkeypatch):
    draw_machine(tmp_path, monkeypatch, ijb=True)
    here_instead(monkeypatch)
    folder = shrink_table(name, tmp_path)
    (first, *_) = read_table(folder).rows
    assert command(folder, "--rows", first.name) == 0
    for (row, metric), cell in cells(folder).items():
        if row != first.name or metric.startswith("ijbb"):
            assert cell["value"] == "not measured", (row, metric)
        elif metric.endswith(("@1e-4", "@1e-5")):
            assert cell["value"] == "not measurable", (row, metric)  # with 264 impostor pairs
        else:
            least = -1 if metric == "validation/cosine" else 0
            assert least <= float(cell["value"]) <= 1, (row, metric)


@pytest.mark.slow
def test_a_table_is_run_by_processes_of_its_own_and_continues(tmp_path, monkeypatch, capsys):
    draw_machine(tmp_path, monkeypatch, ["lfw"])
    folder = shrink_table("gkd", tmp_path)
    assert command(folder, "--rows", "gkd") == 0
    assert command(folder, "--rows", "gkd,dkd", "--dry") == 0
    assert "2 rows, 2 runs of 16 images, 1 recorded, 1 to do" in capsys.readouterr().err
    assert command(folder, "--rows", "gkd,dkd") == 0
    assert len(list((folder / "records").iterdir())) == 2
