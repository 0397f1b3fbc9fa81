"""A sweep: every job in a process tree of its own, refused and failing ones told, finished ones left alone."""

from __future__ import annotations

import json
import sys

import pytest

from facedistill.cli import main
from facedistill.errors import ConfigError
from facedistill.launch import local
from facedistill.launch.job import Job
from facedistill.launch.local import execute
from facedistill.run_folder import RunFolder

STAND_IN = """
import json, os, pathlib, sys, time
sys.argv.remove("train")
values = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(values["folder"])
(folder / "started").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "") + " " + os.environ["OMP_NUM_THREADS"])
deadline = time.time() + 20
while "wait_for" in values and not pathlib.Path(values["wait_for"]).exists():
    assert time.time() < deadline, "nobody came"
    time.sleep(0.05)
if values.get("fail"):
    print("error  the disk is full"); sys.exit(2)
(folder / "results.json").write_text(json.dumps({"student": {"protocols": {"lfw": {"accuracy": 0.9}}}}))
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs whose `facedistill train` is a small script."""
    script = tmp_path / "train.py"
    script.write_text(STAND_IN)
    original = local.subprocess.Popen

    def started(command, **options):
        return original([sys.executable, str(script), *command[3:]], **options)

    monkeypatch.setattr(local.subprocess, "Popen", started)

    def make(name, *overrides, gpus=0):
        folder = tmp_path / name
        folder.mkdir()
        return Job(name, (f"folder={folder}", *overrides), RunFolder(folder), gpus)

    return make


def test_a_failing_job_is_told_and_the_others_go_on(job, tmp_path):
    jobs = [job("a"), job("b", "fail=1"), job("c")]
    ended = []
    failed = execute(jobs, slots=2, logs=tmp_path / "logs", finished=lambda one: ended.append(one.label))
    assert sorted(ended) == ["a", "c"]
    assert failed == [f"b: error  the disk is full (all of it in {tmp_path / 'logs' / 'b.log'})"]


def test_slots_run_side_by_side(job, tmp_path):
    """Each waits for the other's sign of life, which never comes if one runs after the other."""
    jobs = [
        job("a", f"wait_for={tmp_path / 'b' / 'started'}"),
        job("b", f"wait_for={tmp_path / 'a' / 'started'}"),
    ]
    assert execute(jobs, slots=2, logs=tmp_path / "logs") == []


def test_jobs_are_packed_onto_free_gpus(job, tmp_path):
    both = [f"wait_for={tmp_path / 'b' / 'started'}"]
    jobs = [job("a", *both, gpus=1), job("b", gpus=2), job("c", gpus=3)]
    assert execute(jobs, slots=1, logs=tmp_path / "logs", gpus=["4", "5", "7"]) == []
    shown = [(tmp_path / name / "started").read_text().split()[0] for name in "abc"]
    assert (shown[0], shown[1]) == ("4", "5,7")
    assert sorted(shown[2].split(",")) == ["4", "5", "7"]
    with pytest.raises(ConfigError) as error:
        execute([job("d", gpus=4)], slots=1, logs=tmp_path / "logs", gpus=["0"])
    assert str(error.value) == "d: wants 4 GPUs and there are 1; lower trainer.devices"


def test_the_command_skips_finished_jobs_and_names_refused_ones(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("facedistill.sweep.execute", lambda jobs, **options: started.extend(jobs) or [])
    sweep = ["train", "-m", "seed=1,2,-3", "images=12800,12800", f"runs_dir={tmp_path}"]
    assert main(sweep) == 1
    assert [job.overrides[0] for job in started] == ["seed=1", "seed=2"]  # equal jobs run once
    said = capsys.readouterr().err
    assert "2 jobs, 0 finished already, 2 refused" in said
    assert f"refused  seed=-3 images=12800 runs_dir={tmp_path}: 1 problem(s) in the configuration" in said
    folder = started[0].folder
    folder.create()
    folder.update_record(status="finished")
    folder.results.write_text(json.dumps({}))
    started.clear()
    assert main(sweep) == 1
    assert [job.overrides[0] for job in started] == ["seed=2"]


def test_a_sweep_inside_torchrun_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["train", "-m", "seed=1,2"]) == 2
    assert (
        "-m inside torchrun or srun would start the sweep once in each process; start it by itself"
        in " ".join(capsys.readouterr().err.split())
    )
