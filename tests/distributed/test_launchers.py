"""torchrun and SLURM's variables start processes that train the student of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.distributed.launched_fit import BATCH, STEPS, fit

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(__file__).with_name("launched_fit.py"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process trains."""
    folder = tmp_path_factory.mktemp("alone")
    fit(folder, "strategy=cpu")
    return torch.load(folder / "student.pt")


def _free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def _start(command, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _ended(*processes):
    told = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(told)


def _trained_by_two(folder, environment, alone):
    facts, student = torch.load(folder / "facts.pt"), torch.load(folder / "student.pt")
    assert facts == {"world_size": 2, "environment": environment, "images_seen": BATCH * STEPS}
    assert student.keys() == alone.keys()
    for name, expected in alone.items():
        assert torch.allclose(student[name], expected, atol=1e-5), name


def _torchrun(processes, folder, *overrides):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    return _start([*command, "--master-port", _free_port(), SCRIPT, str(folder), *overrides])


def test_torchrun(tmp_path, alone):
    _ended(_torchrun(2, tmp_path))
    _trained_by_two(tmp_path, "TorchElasticEnvironment", alone)


def test_torchrun_on_two_machines(tmp_path, alone):
    """Two launchers of one process each, as two machines have them."""
    port = _free_port()
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--master-addr", "127.0.0.1", "--master-port", port]
    _ended(*(
        _start([*command, "--node-rank", str(node), *meeting, SCRIPT, str(tmp_path), "trainer.devices=auto"])
        for node in range(2)
    ))  # fmt: skip
    _trained_by_two(tmp_path, "TorchElasticEnvironment", alone)


def test_torchrun_without_an_id_is_known_again_after_a_restart_and_not_the_next_time(tmp_path):
    """`started_by` reads it from the folder that torchrun names to its processes."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom facedistill.runs.checkpointing import started_by\n"
        "print('by', os.environ['TORCHELASTIC_RUN_ID'], started_by(), flush=True)\n"
        "sys.exit(os.environ['TORCHELASTIC_RESTART_COUNT'] == '0')\n"
    )
    seen = []
    for _ in range(2):
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--max-restarts",
            "1",
            "--monitor-interval",
            "0.1",
        ]
        started = _start([*command, "--master-port", _free_port(), str(program)])
        seen.append([line for line in started.communicate()[0].splitlines() if line.startswith("by ")])
    assert all(len(lines) == 2 and len(set(lines)) == 1 for lines in seen)
    assert all(line.startswith("by none torchrun none_") for lines in seen for line in lines)
    assert seen[0] != seen[1]


def test_slurm(tmp_path, alone):
    """Two processes with the variables that srun gives its tasks; SLURM itself is not needed."""
    shared = {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "facedistill", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(),
    }  # fmt: skip
    _ended(*(
        _start([sys.executable, SCRIPT, str(tmp_path)], **shared, SLURM_PROCID=str(n), SLURM_LOCALID=str(n))
        for n in range(2)
    ))  # fmt: skip
    _trained_by_two(tmp_path, "SLURMEnvironment", alone)
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_torchrun_with_a_wrong_number_says_so(tmp_path):
    process = _torchrun(2, tmp_path, "trainer.devices=4")
    told, _ = process.communicate(timeout=300)
    assert process.returncode
    assert "trainer.devices=4: torchrun started 2 process(es) on each of 1 machine(s)" in told
