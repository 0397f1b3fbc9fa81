"""The Ray launcher on a cluster without Ray: where jobs fit, what is started again, what is brought back."""

from __future__ import annotations

import functools
import os
import threading
import time
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from facedistill.cli.main import main
from facedistill.errors import ConfigError
from facedistill.runs.folder import RunFolder
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers import cluster as clusters
from facedistill.sweeps.launchers.base import LOST
from facedistill.sweeps.launchers.cluster import Node
from facedistill.sweeps.launchers.pool import execute
from facedistill.sweeps.launchers.ray import RayLauncher
from facedistill.sweeps.launchers.transfer import Transfer
from facedistill.sweeps.launchers.worker import Worker
from tests.sweeps.launchers.fake_cluster import FakeCluster
from tests.sweeps.stand_in import make_job, replace_training


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes jobs whose `facedistill train` is a small script."""
    replace_training(tmp_path, monkeypatch.setattr)
    return functools.partial(make_job, tmp_path)


def _until(condition):
    deadline = time.time() + 60
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_each_job_asks_for_its_devices(job):
    cluster = FakeCluster([Node(8, 2), Node(16, 0)])
    launcher = RayLauncher(cluster=cluster, cpus=3)
    assert launcher.num_gpus == 2
    assert launcher._size(job("a", 2)) == Node(6, 2)
    assert launcher._size(job("b", trainer={"devices": 4})) == Node(12, 0)
    assert launcher._size(job("c", trainer={"devices": "auto"})) == Node(3, 0)
    launcher.check(job("b", trainer={"devices": 5}))
    for wrong, sentence in (
        (job("large", 4), "large: wants 4 GPUs and no machine of the cluster has more than 2; lower trainer.devices"),
        (job("wide", trainer={"devices": 6}), "wide: wants 18 cores and no machine of the cluster that has its GPUs has "
         "more than 16; lower launcher.cpus"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            launcher.check(wrong)
        assert str(error.value).startswith(sentence)
    RayLauncher(cluster=cluster, gpus=4).check(job("large", 4))  # the cluster adds such a machine when asked
    with pytest.raises(ConfigError, match=r"launcher.storage=copy does not bring back"):
        RayLauncher(cluster=cluster, storage="copy").check(job("r", data={"source": {"replay": 1}}))


def test_a_failing_job_is_reported_and_a_lost_one_continues_once_the_old_one_has_saved(job, tmp_path):
    jobs = [job("a", wait_for=str(tmp_path / "go"), force=True), job("b", fail=1), job("c"), job("d")]
    cluster = FakeCluster([Node(1, 0), Node(1, 0)])

    def lose() -> None:
        _until(lambda: (tmp_path / "a" / "started").exists())
        time.sleep(0.1)
        cluster.workers[0].lose()
        _until((tmp_path / "a" / "saved").exists)  # by the kernel's SIGTERM: the guard was killed
        (tmp_path / "go").touch()

    threading.Thread(target=lose).start()
    failed = execute(jobs, RayLauncher(cluster=cluster), logs=tmp_path / "logs")
    assert failed == [f"b: error  the disk is full (all of it in {tmp_path / 'logs' / 'b.log'})"]
    assert jobs[0].folder.is_finished
    assert jobs[0].config.force is False  # else it would start over
    assert cluster.asked == [(1, 0)] * 5
    assert (tmp_path / "logs" / "a.log").read_text().count("runs on ") == 2


def test_a_job_that_is_lost_too_often_fails(job, tmp_path):
    launcher = RayLauncher(cluster=FakeCluster([Node(1, 0)]), restarts=0)
    (tmp_path / "logs").mkdir()
    running = launcher.start(job("a"), tmp_path / "logs" / "a.log")
    running.worker.is_lost = True
    assert running.poll() == 1
    assert "gone; more often than launcher.restarts=0 allows" in (tmp_path / "logs" / "a.log").read_text()


def test_a_worker_that_is_lost_before_its_job_begins_is_no_restart(job, tmp_path):
    launcher = RayLauncher(cluster=FakeCluster([Node(1, 0)]), restarts=1)
    (tmp_path / "logs").mkdir()
    running = launcher.start(job("a", force=True), tmp_path / "logs" / "a.log")
    first = running.worker
    first.is_lost = True
    assert running.poll() is None
    assert running.worker is not first
    assert (launcher._lost, (tmp_path / "logs" / "a.log").exists()) == ({}, False)
    running.worker.is_lost = True
    assert running.poll() == LOST
    assert launcher._lost == {"a": 1}
    assert running.job.config.force  # it has not started over yet


def test_a_folder_that_the_machine_does_not_see_is_named(tmp_path):
    code, sentence = Worker(str(tmp_path)).run(str(tmp_path / "a.yaml"), str(tmp_path / "log"), 1)
    assert code == 1
    assert f"has no {tmp_path / 'a.yaml'}; put runs_dir in a folder that all machines share" in sentence
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("force", [False, True])
def test_runs_are_sent_and_brought_back(tmp_path, monkeypatch, force):
    """What the sweep has of the run goes to the worker's folder, and what happens there comes back with the log."""
    replace_training(tmp_path, monkeypatch.setattr)
    monkeypatch.undo()
    script = tmp_path / "script.py"
    runs = tmp_path / "runs"
    folder = RunFolder(runs / "a-1")
    folder.create()
    folder.checkpoint.write_bytes(b"step 1")
    (folder.path / "config.yaml").write_text(f"runs_dir: {runs}\nseed: 1\n")
    config = OmegaConf.create({"images": 1, "runs_dir": str(runs), "curve": [0.5, 0.6], "pause_s": 0.01})
    config.force = force
    monkeypatch.setattr("sys.executable", _python(tmp_path, script))
    cluster = FakeCluster([Node(1, 0)])
    launcher = RayLauncher(cluster=cluster, storage="copy", copy_every_s=0.01)
    assert execute([Job("a", (), folder, config)], launcher, logs=runs / "logs") == []
    assert folder.is_finished
    assert (folder.path / "metrics.csv").read_text() == "step,val/cosine\n1,0.5\n2,0.6\n"
    if force:  # a lost job would have continued from there
        assert not folder.checkpoint.exists()
    else:
        assert folder.checkpoint.read_bytes() == b"step 1"
        assert f"runs_dir: {runs}\n" in (folder.path / "config.yaml").read_text()
    assert folder.holder is None
    assert not os.path.exists(cluster.workers[0].worker._own)


def _python(folder, script):
    """A python that runs the script instead of facedistill."""
    import sys

    path = folder / "python"
    path.write_text(
        f'#!/bin/bash\nif [ "$2" = facedistill ]; then shift 2; exec {sys.executable} {script} "$@"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def test_a_file_in_many_parts_and_one_that_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("facedistill.sweeps.launchers.transfer._PART_BYTES", 3)
    worker = Worker()
    folder = RunFolder(tmp_path / "a-1")
    transfer = Transfer(
        lambda method, *a: getattr(worker, method)(*a), worker.where()[1], folder, tmp_path / "log"
    )
    theirs = worker._own / "a-1"
    theirs.mkdir()
    (theirs / "last.ckpt").write_bytes(b"0123456789")
    (theirs / "previous.ckpt").write_bytes(b"old")
    (theirs / "run.lock").touch()
    (worker._own / "log").write_text("first\n")
    transfer.bring_back()
    (theirs / "previous.ckpt").unlink()
    (worker._own / "log").write_text("first\nsecond\n")
    transfer.bring_back()
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == {"last.ckpt": b"0123456789"}
    assert (tmp_path / "log").read_text() == "first\nsecond\n"
    again = Worker()
    Transfer(lambda method, *a: getattr(again, method)(*a), "", folder, tmp_path / "log").send()
    assert (again._own / "a-1" / "last.ckpt").read_bytes() == b"0123456789"
    for one in (worker, again):
        one.close()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "launcher=ray: ray is not installed; pip install 'facedistill[ray]', or launcher=local"),
        (["launcher.address=there"], "launcher.address=there: expected auto, ray://host:10001 or host:6379"),
        (["launcher.address=127.0.0.1:1"], "launcher.address=127.0.0.1:1: nothing answers there (Connection refused)"),
    ],
)  # fmt: skip
def test_without_ray_or_a_cluster_nothing_starts(overrides, sentence, tmp_path, monkeypatch, capsys):
    def imported(name):
        if not overrides:
            raise ImportError(name=name)

    monkeypatch.setattr(clusters, "import_module", imported)
    assert main(["train", "-m", "launcher=ray", "seed=1,2", f"runs_dir={tmp_path / 'runs'}", *overrides]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_worker_that_cannot_start_is_not_taken_for_a_lost_one():
    class RayError(Exception):
        pass

    names = ("RayTaskError", "RuntimeEnvSetupError", "OutOfMemoryError")
    errors = SimpleNamespace(RayError=RayError, **{name: type(name, (RayError,), {}) for name in names})
    actor = clusters._Actor(SimpleNamespace(exceptions=errors), None)
    text = "The actor died because of an error raised in its creation task\nModuleNotFoundError: No module named 'x'\n"
    for raised, kind, sentence in (
        (RayError(text), clusters.WorkerError, "ModuleNotFoundError: No module named 'x'"),
        (RayError("The actor died"), clusters.NodeLostError, "its machine is gone, or its worker was killed"),
        (errors.OutOfMemoryError("?"), clusters.NodeLostError, "its machine ran out of memory"),
    ):
        with pytest.raises(kind, match=sentence), actor._errors():
            raise raised
