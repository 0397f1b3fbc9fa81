"""What a sweep shows of its jobs, read from their runs' files."""

from __future__ import annotations

import io
import json

from rich.console import Console

from facedistill.sweeps.view import SweepView
from tests.sweeps.stand_in import make_job


def test_slow_jobs_have_a_rate(tmp_path) -> None:
    """A rate below a half reads as in the run itself, not as 0."""
    jobs = [make_job(tmp_path, name) for name in "ab"]
    view = SweepView(jobs)
    view.console = Console(file=io.StringIO(), width=200)
    for job, rate in zip(jobs, (0.04, 0.08), strict=True):
        job.folder.create()
        state = {"images_seen": 4, "total_images": 10, "images_per_s": rate, "seconds_left": 150}
        (job.folder.path / "progress.json").write_text(json.dumps(state))
        view.set(job, "running")
    view._read()
    assert view.summary() == "2 jobs: 2 running | 0.12 images/s | 1 min 40 s left"
    view.console.print(view._table())
    assert "0.08 images/s" in view.console.file.getvalue()
