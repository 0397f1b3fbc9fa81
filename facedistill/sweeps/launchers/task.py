"""One task of a job on a cluster: what submitit calls there. Imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_task(python: str, config: str, log: str, trust: Sequence[str] = ()) -> None:
    """Runs a fresh `facedistill train --config`; SLURM sets its rank.

    Args:
        python: The sweep's own interpreter.
        config: The job's written configuration.
        log: What the first task prints is appended here; each other task has a file of its own.
        trust: The sweep's `trust=` arguments.

    Raises:
        RuntimeError: If it ends with another code than 0.
    """
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    path = Path(log) if not rank else Path(log).with_suffix(f".{rank}.log")
    with path.open("ab") as output:
        command = [python, "-m", "facedistill", "train", "--config", config, *trust]
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if code:
        raise RuntimeError(f"exit code {code}")
