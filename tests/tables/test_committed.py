"""The committed tables: a fresh clone renders them from their records alone, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facedistill.reporting.comparison_files import render
from facedistill.tables.record import read_records

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
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
