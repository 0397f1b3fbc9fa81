"""A run that logs to files only needs no wandb."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.assets import asset_or_skip
from tests.smoke.test_train import SMALL

WITHOUT_WANDB = """
import sys
sys.modules["wandb"] = None
from facedistill.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.assets
@pytest.mark.slow
def test_a_run_that_logs_to_csv_works_without_wandb(tmp_path):
    for name in ("w600k_mbf", "mobilestylegan"):
        asset_or_skip(name)
    arguments = ["train", *SMALL, "logger=csv", f"runs_dir={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_WANDB, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.iterdir()
    assert (run / "student.safetensors").is_file()
    assert (run / "metrics.csv").is_file()
