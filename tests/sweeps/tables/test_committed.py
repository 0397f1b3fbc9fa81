"""The committed tables: a fresh clone renders them from their records alone, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from facedistill.cli.main import main
from facedistill.reporting.table.comparison import compare
from facedistill.reporting.table.render import as_markdown, render
from facedistill.sweeps.tables.record import read_records

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
OWN = ("pocket", "pocket_photo", "real_faces")  # tables that need no GPU
PAPERS = sorted(path.parent.name for path in EXPERIMENTS.glob("*/rows.yaml") if path.parent.name not in OWN)
RECORDED = sorted(path.parent.name for path in EXPERIMENTS.glob("*/records"))


def test_there_is_a_measured_table():
    assert "pocket" in RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_committed_is_what_the_records_give(name, tmp_path):
    committed, folder = EXPERIMENTS / name, tmp_path / name
    shutil.copytree(committed / "records", folder / "records")
    for file in ("rows.yaml", "published.yaml"):
        if (committed / file).exists():
            shutil.copy(committed / file, folder / file)
    written = render(folder, read_records(folder))
    assert len(written) > 4
    for path in written:
        there = committed / path.relative_to(folder)
        assert path.read_bytes() == there.read_bytes(), (
            f"{there} is stale: facedistill reproduce {name} --render"
        )


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_table_is_planned_without_its_files_and_refused_without_dry(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FACEDISTILL_DATA", str(tmp_path))
    monkeypatch.setenv("FACEDISTILL_SHARED", str(tmp_path))
    monkeypatch.setattr("facedistill.sweeps.launchers.local.gpu_ids", list)
    monkeypatch.setattr(
        "facedistill.sweeps.tables.reproduce.execute", lambda *a, **k: pytest.fail("a run was started")
    )
    command = ["reproduce", name, "--seeds", "1", "--experiments", str(EXPERIMENTS)]
    assert main([*command, "--dry"]) == 0
    said = capsys.readouterr().err
    files = yaml.safe_load((EXPERIMENTS / name / "rows.yaml").read_text())["files"]
    for file, what in files.items():
        assert said.count(f"{tmp_path / file} is not there: put {what} there") == 1
    assert said.count("there is no GPU here") == 1
    assert said.count("cplfw is not here: put cplfw.bin into") == 1
    assert "estimated, not measured: " in said
    assert main(command) == 2
    (refusal,) = [line for line in capsys.readouterr().err.splitlines() if "cannot start here" in line]
    for file in files:
        assert f"{tmp_path / file} is not there" in refusal


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_published_belongs_to_the_table_and_is_no_measurement(name):
    comparison = compare(EXPERIMENTS / name, [])
    assert {figure.value for line in comparison.lines for figure in line.figures} == {None}
    assert "mean and 95 % interval" in as_markdown(comparison)


def test_one_published_cell_is_stated_alike_in_every_table():
    """A row of one student and protocol stands in several tables; a slip in one of them shows here."""
    told: dict[tuple[str, str, str], set[float]] = {}
    for name in PAPERS:
        comparison = compare(EXPERIMENTS / name, [])
        for line in comparison.lines:
            for figure, metric in zip(line.figures, comparison.metrics, strict=True):
                if figure.published:
                    paper = figure.published.source.what.partition(")")[0]
                    told.setdefault((paper, line.name, metric), set()).add(figure.published.value)
    assert len(told) > 150
    assert {cell: values for cell, values in told.items() if len(values) > 1} == {}
