"""A sweep: every job in a process tree of its own; refused and failing ones are reported, finished ones skipped."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facedistill.cli.main import main
from facedistill.errors import ConfigError
from facedistill.runs.folder import RunFolder
from facedistill.sweeps.launchers.guard import job_environment
from facedistill.sweeps.launchers.local import LocalLauncher
from facedistill.sweeps.launchers.pool import execute
from tests.sweeps.stand_in import make_job, replace_training


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs whose `facedistill train` is a small script."""
    replace_training(tmp_path, monkeypatch.setattr)
    return functools.partial(make_job, tmp_path)


def test_a_failing_job_is_reported_and_the_others_continue(job, tmp_path):
    jobs = [job("a"), job("b", fail=1), job("c")]
    ended = []
    failed = execute(
        jobs, LocalLauncher(slots=2), logs=tmp_path / "logs", finished=lambda one: ended.append(one.label)
    )
    assert sorted(ended) == ["a", "c"]
    assert failed == [f"b: error  the disk is full (all of it in {tmp_path / 'logs' / 'b.log'})"]


def test_slots_run_side_by_side(job, tmp_path):
    """Each waits for the other's sign of life, which never comes if one runs after the other."""
    jobs = [
        job("a", wait_for=str(tmp_path / "b" / "started")),
        job("b", wait_for=str(tmp_path / "a" / "started")),
    ]
    assert execute(jobs, LocalLauncher(slots=2), logs=tmp_path / "logs") == []


def test_jobs_are_packed_onto_free_gpus(job, tmp_path):
    jobs = [job("a", 1, wait_for=str(tmp_path / "b" / "started")), job("b", 2), job("c", 3)]
    launcher = LocalLauncher(slots=1, gpus=["4", "5", "7"])
    assert execute(jobs, launcher, logs=tmp_path / "logs") == []
    shown = [(tmp_path / name / "started").read_text().split()[0] for name in "abc"]
    assert (shown[0], shown[1]) == ("4", "5,7")
    assert sorted(shown[2].split(",")) == ["4", "5", "7"]
    with pytest.raises(ConfigError) as error:
        execute([job("d", 4)], LocalLauncher(slots=1, gpus=["0"]), logs=tmp_path / "logs")
    assert str(error.value) == "d: wants 4 GPUs and there are 1; lower trainer.devices"


def test_jobs_share_a_gpu_where_that_is_set(job, tmp_path):
    """Each waits for the other, and both see the one GPU; a job of two GPUs gets two different ones."""
    waits = {"a": "b", "b": "a"}
    jobs = [job(name, 1, wait_for=str(tmp_path / other / "started")) for name, other in waits.items()]
    execute(jobs, LocalLauncher(gpus=["3"], jobs_per_gpu=2), logs=tmp_path / "logs")
    execute([job("c", 2)], LocalLauncher(gpus=["3", "4"], jobs_per_gpu=2), logs=tmp_path / "logs")
    assert [(tmp_path / name / "started").read_text().split()[0] for name in "abc"] == ["3", "3", "3,4"]


def test_a_run_that_another_process_holds_is_waited_for(job, tmp_path):
    """The job starts only once the lock is free, so it can never be doubled."""
    (tmp_path / "a").mkdir()
    held_until = []

    def release():
        time.sleep(1.5)
        held_until.append(time.time())
        hold.__exit__(None, None, None)

    hold = RunFolder(tmp_path / "a").held()
    hold.__enter__()
    threading.Thread(target=release).start()
    assert execute([job("a")], LocalLauncher(slots=1), logs=tmp_path / "logs") == []
    assert (tmp_path / "a" / "started").stat().st_mtime >= held_until[0]


SWEEP = """
import sys
from pathlib import Path
from facedistill.sweeps.launchers.local import LocalLauncher
from facedistill.sweeps.launchers.pool import execute
from tests.sweeps.stand_in import make_job, replace_training
folder = Path(sys.argv[1])
replace_training(folder)
jobs = [make_job(folder, name, wait_for="never") for name in "ab"]
execute(jobs, LocalLauncher(slots=2), logs=folder / "logs")
"""


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_when_the_sweep_dies_its_jobs_save_and_end(tmp_path, number):
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(tmp_path)], stderr=subprocess.DEVNULL, cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    _until(lambda: all((tmp_path / name / "started").exists() for name in "ab"))
    time.sleep(0.2)
    process.send_signal(number)
    process.wait(timeout=240)
    _until(lambda: all((tmp_path / name / "saved").exists() for name in "ab"))
    _until(lambda: not any(_lives(int((tmp_path / name / "pid").read_text())) for name in "ab"))


def _until(condition, limit_s=240):
    deadline = time.time() + limit_s
    while not condition():
        assert time.time() < deadline
        time.sleep(0.05)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:  # also a process that ends while its file is read
        return False


def test_the_command_skips_finished_jobs_and_names_refused_ones(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setenv("SLURM_PROCID", "0")  # as in an sbatch script, which runs once
    monkeypatch.setattr(
        "facedistill.sweeps.sweep.execute", lambda jobs, launcher, **options: started.extend(jobs) or []
    )
    sweep = ["train", "-m", "seed=1,2,-3", "images=12800,12800", f"runs_dir={tmp_path}"]
    assert main(sweep) == 1
    assert [job.overrides[0] for job in started] == ["seed=1", "seed=2"]  # equal jobs run once
    said = capsys.readouterr().err
    assert "2 jobs, 0 finished already, 2 refused" in said
    assert "refused  seed=-3: 1 problem(s) in the configuration" in said
    assert [job.label for job in started] == ["seed=1", "seed=2"]
    folder = started[0].folder
    assert re.fullmatch(r"synthdistill-TinyFaR-C-seed1-[0-9a-f]{8}", folder.path.name)
    assert started[0].config.name == "synthdistill-TinyFaR-C-seed1"
    assert started[0].overrides[-1] == "name=synthdistill-TinyFaR-C-seed1"
    folder.create()
    folder.update_record(status="finished")
    folder.results.write_text(json.dumps({}))
    started.clear()
    assert main(sweep) == 1
    assert [job.overrides[0] for job in started] == ["seed=2"]
    plain = tmp_path / f"synthdistill-{started[0].id[-8:]}"
    plain.mkdir()  # begun by itself, or before runs of sweeps had their own names
    started.clear()
    main(sweep)
    assert [job.folder.path for job in started] == [plain]
    started.clear()
    main([*sweep, "name=mine"])
    assert [job.id[:-8] for job in started] == ["mine-", "mine-"]


def test_a_job_is_no_task_of_srun(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert {"SLURM_NTASKS", "SLURM_JOB_ID"} & job_environment().keys() == {"SLURM_JOB_ID"}


def test_a_mistyped_choice_starts_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("facedistill.sweeps.sweep.execute", lambda *args, **options: pytest.fail("started"))
    assert main(["train", "-m", "experiment=demo", "optimizer=adam,adamm", f"runs_dir={tmp_path}"]) == 2
    assert "optimizer=adamm: there is no such optimizer; did you mean adam?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("LOCAL_RANK", "0"), ("SLURM_STEP_NUM_TASKS", "2")])
def test_a_sweep_inside_torchrun_or_srun_is_refused(monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert main(["train", "-m", "seed=1,2"]) == 2
    assert (
        "-m inside torchrun or srun would start the sweep once in each process; start it by itself"
        in " ".join(capsys.readouterr().err.split())
    )
