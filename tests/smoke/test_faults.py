"""The command itself, on the real weights, while its processes are killed and SLURM wants its machine back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.assets import asset_or_skip
from tests.smoke.test_train import SMALL

pytestmark = [pytest.mark.assets, pytest.mark.slow]

ENDLESS = (*SMALL, "images=800000", "callbacks.checkpoint_every_images=16", "backbone=mobilefacenet")
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _assets():
    for name in ("w600k_mbf", "mobilestylegan"):
        asset_or_skip(name)


@pytest.fixture
def started(tmp_path):
    """Starts `facedistill train` and gives it back once it has a checkpoint."""
    processes = []

    def start(*overrides, **environment):
        log = (tmp_path / "log.txt").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "facedistill", "train", *ENDLESS, f"runs_dir={tmp_path / 'runs'}", *overrides],
            stderr=log, stdout=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
        processes.append(process)
        until = time.monotonic() + 400
        while not list((tmp_path / "runs").glob("*/previous.ckpt")):
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < until, "no checkpoint"
            time.sleep(0.2)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _children(pid):
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            children += [
                int(child) for child in file.read_text().split()
                if b"facedistill" in Path(f"/proc/{child}/cmdline").read_bytes()
            ]  # fmt: skip
    return children


def _ended(pid, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.2)
    return False


def test_the_first_process_ends_in_a_sentence_when_the_second_is_killed(started, tmp_path):
    process = started("strategy=ddp_cpu", WANDB_MODE="disabled")
    (second,) = _children(process.pid)
    os.kill(second, signal.SIGKILL)
    assert process.wait(PATIENCE_S) in (1, 2)
    said = (tmp_path / "log.txt").read_text()
    assert "the last good checkpoint stays: give the same command again" in said
    assert "Traceback" not in said
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def test_the_second_process_ends_in_a_sentence_when_the_first_is_killed(started, tmp_path):
    process = started("strategy=ddp_cpu", WANDB_MODE="disabled")
    (second,) = _children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == -9
    assert _ended(second, PATIENCE_S)
    said = (tmp_path / "log.txt").read_text()
    assert "give the same command again" in said
    assert "Traceback" not in said


def test_slurm_gets_its_machine_back_and_the_run_continues_in_the_same_wandb_run(started, tmp_path):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "calls"}\n')
    scontrol.chmod(0o755)
    slurm = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "12", "WANDB_MODE": "offline"}
    process = started(**slurm)
    (run,) = (tmp_path / "runs").iterdir()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE_S) == 138
    assert (tmp_path / "calls").read_text() == "requeue 12\n"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["unfinished"]["images_seen"] == record["images_seen"] > 0
    assert (run / "student.safetensors").exists()
    (offline,) = (run / "wandb").glob("offline-run-*")
    assert offline.name.endswith(record["wandb_id"])

    process = started(**slurm)
    while len(list((run / "wandb").glob("offline-run-*"))) < 2:
        time.sleep(0.2)
    assert all(folder.name.endswith(record["wandb_id"]) for folder in (run / "wandb").glob("offline-run-*"))
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)
    assert (tmp_path / "calls").read_text() == "requeue 12\n", "SIGTERM is SLURM's own business"
