"""A run folder of invented results, made once, and copies of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facedistill.reporting.run.page import write_report
from tests.reporting.fake_run import make_run


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run folder with its report; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("runs") / "demo-1a2b3c4d", protocols=("lfw",), num_faces=4)
    write_report(run)
    return run


@pytest.fixture
def run(reported_run: Path, tmp_path: Path) -> Path:
    """A copy without the report."""
    kept = shutil.ignore_patterns("report.html", "figures")
    return Path(shutil.copytree(reported_run, tmp_path / reported_run.name, ignore=kept))
