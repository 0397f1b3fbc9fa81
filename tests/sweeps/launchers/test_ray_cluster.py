"""Real runs on a real Ray cluster of several nodes on this machine, one of which is killed while it trains."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.assets import asset_or_skip

pytestmark = [pytest.mark.slow, pytest.mark.assets]
ROOT = Path(__file__).parents[3]
TINY = (
    "debug=smoke", "images=24", "data.batch_size=4", "data.validation.faces=4", "method=cosine",
    "teacher.compile=false", "generator.network.compile=false", "generator.network.exit=64",
    "callbacks.checkpoint_every_images=4", "callbacks.validate_every_images=24",
)  # fmt: skip
NODE = {"object_store_memory": 100 << 20, "include_dashboard": False}
LIMIT_S = 3000


@pytest.fixture(scope="module")
def head():
    """A Ray cluster whose head has no cores."""
    pytest.importorskip("ray", reason="needs the extra ray")
    for name in ("w600k_mbf", "mobilestylegan"):
        asset_or_skip(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_timeout_ms", "60000")  # patience for a loaded machine
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # it would end jobs when others fill the memory
        patch.setenv("WANDB_MODE", "offline")
        from ray.cluster_utils import Cluster

        cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE}))
        yield cluster
        cluster.shutdown()


@pytest.fixture
def cluster(head):
    """Three nodes of one core each next to the head."""
    head.three = [_patiently(lambda: head.add_node(num_cpus=1, **NODE)) for _ in range(3)]
    yield head
    for node in head.three:
        if node in head.worker_nodes:
            head.remove_node(node, allow_graceful=False)


@pytest.mark.parametrize(("storage", "jobs"), [("shared", 8), ("copy", 3)])
def test_the_jobs_of_a_killed_node_continue_elsewhere_and_none_runs_twice(
    cluster, start, tmp_path, storage, jobs
):
    runs = tmp_path / "runs"
    ray = ["launcher=ray", f"launcher.address={cluster.address}", f"launcher.storage={storage}", "launcher.copy_every_s=0.5"]  # fmt: skip
    seeds = ",".join(map(str, range(1, jobs + 1)))
    sweep = start([*TINY, f"seed={seeds}", f"runs_dir={runs}", *ray], tmp_path / "sweep.txt")
    node = cluster.three[1]
    raylet = node.all_processes["raylet"][0].process.pid
    _until(
        lambda: len(_finished(runs)) >= (jobs > 3) and (name := _trains(raylet)) and _is_midway(runs / name)
    )
    lost, before = _trains(raylet), _finished(runs)
    _kill([raylet, *_descendants(raylet)])  # as a power cut would: nothing saves
    cluster.remove_node(node, allow_graceful=False)
    assert sweep.wait(LIMIT_S) == 0, (tmp_path / "sweep.txt").read_text()
    after = _finished(runs)
    assert len(after) == jobs
    assert {name: after[name] for name in before} == before
    starts = {name: (runs / "logs" / f"{name}.log").read_text().count("runs on ") for name in after}
    assert starts == {name: 1 + (name == lost) for name in after}
    for name in after:
        with (runs / name / "metrics.csv").open() as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
        assert steps == [0, 1, 2, 3, 4, 5]
    said = (tmp_path / "sweep.txt").read_text()
    assert said.count("it starts again from its last checkpoint") == 1
    # The same run on this machine, uninterrupted, ends with the same weights.
    seed = json.loads((runs / lost / "run.json").read_text())["command"]
    seed = next(word for word in seed.split() if word.startswith("seed="))
    alone = start([*TINY, seed, f"runs_dir={tmp_path / 'alone'}", "launcher.slots=2"], tmp_path / "alone.txt")
    assert alone.wait(LIMIT_S) == 0
    (student,) = (tmp_path / "alone").glob("*/student.safetensors")
    assert student.parent.name == lost
    assert _weights(student) == _weights(runs / lost / "student.safetensors")


def test_an_interrupted_sweep_saves_its_jobs_and_continues(cluster, start, tmp_path):
    runs = tmp_path / "runs"
    command = [
        *TINY,
        "images=64",
        "seed=1,2",
        f"runs_dir={runs}",
        "launcher=ray",
        f"launcher.address={cluster.address}",
    ]
    sweep = start(command, tmp_path / "first.txt")
    _until(lambda: sum(map(_is_midway, runs.glob("smoke-*"))) == 2)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(LIMIT_S) == 130
    assert {_record(run)["status"] for run in runs.glob("smoke-*")} == {"interrupted"}
    assert start(command, tmp_path / "second.txt").wait(LIMIT_S) == 0
    assert len(_finished(runs)) == 2
    assert sum(log.read_text().count("from its last checkpoint") for log in runs.glob("logs/*.log")) == 2


@pytest.fixture
def start():
    """Starts sweeps, and ends those that a failed test leaves behind."""
    started = []

    def started_one(arguments, output):
        started.append(_start(arguments, output))
        return started[-1]

    yield started_one
    for process in started:
        process.kill()


def _start(arguments, output):
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "facedistill", "train", "-m", *arguments],
            stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=ROOT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a background job
        )  # fmt: skip


def _record(run):
    path = run / "run.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _finished(runs):
    """Finished runs, each with the time its student was written."""
    found = [run for run in runs.glob("smoke-*") if _record(run).get("status") == "finished"]
    return {run.name: (run / "student.safetensors").stat().st_mtime_ns for run in found}


def _is_midway(run):
    """Whether it can be resumed and has steps to go, and is not stopping."""
    seen = json.loads((run / "progress.json").read_text()) if (run / "progress.json").exists() else {}
    has_steps = 0 < seen.get("images_seen", 0) < seen.get("total_images", 0)
    return has_steps and (run / "last.ckpt").exists() and _record(run).get("status") == "running"


def _trains(pid):
    """The run that a process among the descendants of `pid` trains; None if none does."""
    for one in _descendants(pid):
        try:
            words = Path(f"/proc/{one}/cmdline").read_bytes().decode().split("\0")
        except OSError:  # it has ended
            continue
        if "facedistill.sweeps.launchers.guard" in words:
            job = Path(words[words.index("--config") + 1])
            if job.stem != "job":
                return job.stem
            (run,) = [path.name for path in job.parent.glob("smoke-*")] or [None]
            return run
    return None


def _descendants(pid):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _weights(path):
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(path).items()}


def _patiently(start):
    """Ray gives a node thirty seconds to start, which a loaded machine may not keep."""
    for _ in range(5):
        try:
            return start()
        except Exception as error:
            failure = error
    raise failure


def _until(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
