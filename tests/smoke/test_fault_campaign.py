"""A few of the faults of `benchmarks/faults.py`, which does two hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_no_run_is_lost_none_diverges_none_hangs(tmp_path):
    done = subprocess.run(
        [sys.executable, CAMPAIGN, "--kills", "8", "--specials", "1", "--minutes", "5", "--output", tmp_path / "faults.md"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = (tmp_path / "faults.md").read_text()
    assert "| lost runs | 0 |" in text
    assert "| diverged runs | 0 |" in text
