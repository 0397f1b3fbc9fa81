"""A small script in place of `facedistill train --config`, so that launching is tested without training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from facedistill.runs.folder import RunFolder
from facedistill.sweeps.job import Job
from facedistill.sweeps.launchers import local

SCRIPT = """
import json, os, pathlib, signal, sys, time
import yaml
assert sys.argv[1:3] == ["train", "--config"]
values = yaml.safe_load(open(sys.argv[3]))
folder = pathlib.Path(values.get("folder") or pathlib.Path(values["runs_dir"], values["planned"]["run"]))
folder.mkdir(exist_ok=True)
(folder / "pid").write_text(str(os.getpid()))
(folder / "started").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "") + " " + os.environ["OMP_NUM_THREADS"])
def save(number, frame):
    (folder / "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
for step, cosine in enumerate(values.get("curve", ()), 1):
    with (folder / "metrics.csv").open("a" if step > 1 else "w") as file:
        file.write(("step,val/cosine\\n" if step == 1 else "") + f"{step},{cosine}\\n")
    time.sleep(values["pause_s"])
deadline = time.time() + 240
while "wait_for" in values and not pathlib.Path(values["wait_for"]).exists():
    assert time.time() < deadline, "nobody came"
    time.sleep(0.05)
if values.get("fail"):
    print("error  the disk is full"); sys.exit(2)
(folder / "run.json").write_text(json.dumps({"status": "finished"}))
(folder / "results.json").write_text(json.dumps({"student": {"protocols": {"lfw": {"accuracy": 0.9}}}}))
"""


def replace_training(folder: Path, set_attribute: Any = setattr) -> None:
    """Makes every job that starts from now on run the script, which is written to `folder`."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    original = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        guard, rest = command[:3], command[6:]
        return original([*guard, sys.executable, str(script), *rest], **options)

    set_attribute(local.subprocess, "Popen", started)
    set_attribute(Job, "write", _written)


def make_job(folder: Path, name: str, gpus: int = 0, label: str = "", **values: Any) -> Job:
    """A job whose run lies in `folder`/`name`; `values` say what the script does."""
    config = OmegaConf.create({"images": 1, "folder": str(folder / name), **values})
    return Job(label or name, (), RunFolder(folder / name), config, gpus)


def _written(job: Job) -> Path:
    path = job.folder.path.with_suffix(".yaml")
    path.write_text(OmegaConf.to_yaml(job.config))
    return path
