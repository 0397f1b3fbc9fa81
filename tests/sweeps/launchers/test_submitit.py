"""Jobs through submitit: its own local executor, and SLURM's commands played by scripts that run the job."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from facedistill.errors import ConfigError
from facedistill.runs.folder import RunFolder
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers.pool import execute
from facedistill.sweeps.launchers.submitit import SubmititLauncher

pytest.importorskip("submitit")

# A python that, asked for `-m facedistill train --config FILE`, notes its rank instead, and fails for "bad" files.
PYTHON = """#!/bin/bash
if [ "$2" != facedistill ]; then exec {python} "$@"; fi
folder=$(dirname "$5")
echo "$SLURM_PROCID of $SLURM_NTASKS" >> "$folder/$(basename "$5" .yaml).ranks"
sleep 0.5
case "$5" in *bad*) echo "error  the disk is full"; exit 2;; esac
"""
SBATCH = """#!/bin/bash
cp "$1" "{folder}/script.$$"
tasks=$(sed -n 's/^#SBATCH --ntasks-per-node=//p' "$1"); nodes=$(sed -n 's/^#SBATCH --nodes=//p' "$1")
echo RUNNING > "{folder}/state.$$"
SLURM_JOB_ID=$$ SLURM_NTASKS=$((tasks * nodes)) setsid bash -c \\
  'bash "{folder}/script.$SLURM_JOB_ID" && s=COMPLETED || s=FAILED; echo $s > "{folder}/state.$SLURM_JOB_ID"' \\
  > "{folder}/out.$$" 2>&1 < /dev/null &
echo "Submitted batch job $$"
"""
SRUN = """#!/bin/bash
while [ "$1" != "{python}" ]; do shift; done
for rank in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here "$@" & pids="$pids $!"
done
code=0; for pid in $pids; do wait $pid || code=1; done; exit $code
"""
SACCT = """#!/bin/bash
echo 'JobID|State|NodeList'
for path in {folder}/state.*; do echo "${{path##*.}}|$(cat $path)|here"; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SLURM's commands on PATH; what they note lies in the folder that is returned."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    python = folder / "python"
    texts = {"python": PYTHON, "sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": "#!/bin/bash\n"}
    for name, text in texts.items():
        own = sys.executable if name == "python" else python
        (folder / name).write_text(text.format(folder=folder, python=own))
        (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(sys, "executable", str(python))
    return folder


def _job(tmp_path, name, gpus=0):
    config = OmegaConf.create({"images": 1})
    return Job(name, ("seed=1",), RunFolder(tmp_path / "runs" / name), config, gpus)


def test_slurm_jobs_have_one_task_per_gpu_and_failures_are_reported(slurm, tmp_path):
    launcher = SubmititLauncher(partition="fast", gpus=2, cpus=3, time_min=7, options={"account": "ours"})
    logs = tmp_path / "runs" / "logs"
    jobs = [_job(tmp_path, "good", gpus=2), _job(tmp_path, "bad", gpus=2)]
    ended = []
    failed = execute(jobs, launcher, logs=logs, finished=lambda job: ended.append(job.label))
    assert ended == ["good"]
    assert failed == [f"bad: error  the disk is full (all of it in {logs / 'bad.log'})"]
    ranks = sorted((tmp_path / "runs" / "jobs" / "good.ranks").read_text().splitlines())
    assert ranks == [f"{rank} of 2" for rank in range(2)]
    script = next(slurm.glob("script.*")).read_text()
    for line in ("partition=fast", "nodes=1", "ntasks-per-node=2", "gpus-per-node=2", "cpus-per-task=3", "time=7",
                 "account=ours", "signal=TERM@90"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script
    assert "srun" in script


def test_a_job_in_the_queue_is_followed_and_not_submitted_again(slurm, tmp_path):
    logs = tmp_path / "runs" / "logs"
    logs.mkdir(parents=True)
    job = _job(tmp_path, "good")
    SubmititLauncher(gpus=0).start(job, logs / "good.log")  # by a sweep that was killed then
    assert execute([job], SubmititLauncher(gpus=0), logs=logs) == []
    assert len(list(slurm.glob("script.*"))) == 1
    assert (tmp_path / "runs" / "jobs" / "good.ranks").read_text() == "0 of 1\n"


def test_submitits_local_executor(slurm, tmp_path):
    launcher = SubmititLauncher(cluster="local", gpus=0, time_min=5)
    jobs = [_job(tmp_path, name) for name in ("good", "bad")]
    failed = execute(jobs, launcher, logs=tmp_path / "runs" / "logs")
    assert len(failed) == 1
    assert failed[0].startswith("bad: error  the disk is full")
    assert (tmp_path / "runs" / "jobs" / "good.ranks").read_text().count("\n") == 1


def test_more_gpus_than_a_node_gets_are_refused(slurm, tmp_path):
    with pytest.raises(ConfigError) as error:
        SubmititLauncher(gpus=1).check(_job(tmp_path, "large", gpus=4))
    assert str(error.value) == "large: wants 4 GPUs per node and launcher.gpus=1; make them equal"
