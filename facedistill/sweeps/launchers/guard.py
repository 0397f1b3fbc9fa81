"""Parent process of one job: if the sweep dies, the job saves its state and stops.

`python -m facedistill.sweeps.launchers.guard COMMAND...`, with a pipe to the sweep as standard input. The job gets a session of
its own. SIGTERM is forwarded to all its processes, and the end of the pipe means the same; SIGQUIT kills them. When the first process of the
job has ended, the processes that it left are killed. Its exit code is the guard's. If the guard itself is killed, as Ray
does with the children of a worker that ends, the job gets SIGTERM from the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORWARDED = {signal.SIGTERM, signal.SIGQUIT}
_PR_SET_PDEATHSIG = 1  # of prctl(2)
PATIENCE_S = 120  # for a step to end and a checkpoint to be written


def main(command: list[str]) -> int:
    """Runs the command and returns its exit code."""
    # Signals wait until the job exists.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    job = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_prepare,
        env=job_environment(),
    )
    signal.signal(signal.SIGTERM, lambda number, frame: _signal(job, signal.SIGTERM))
    signal.signal(signal.SIGQUIT, lambda number, frame: _signal(job, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    threading.Thread(target=_follow_the_sweep, args=(job,), daemon=True).start()
    code = job.wait()
    _signal(job, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def start_guarded(
    command: Sequence[str], log: Path | str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a command under a guard that ends it if this process dies; what it prints is appended to `log`."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "facedistill.sweeps.launchers.guard", *command],
            stdout=output,
            stderr=output,
            stdin=subprocess.PIPE,  # never written to: its end tells the guard that this process is gone
            start_new_session=True,
            cwd=folder,
            env=environment,
        )


def job_environment() -> dict[str, str]:
    """That of this process, but not as a task of srun: in an sbatch script or a Ray worker, a job starts its own processes."""
    return {name: value for name, value in os.environ.items() if name != "SLURM_NTASKS"}


def _prepare() -> None:
    """Runs in the job's process, before its program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _follow_the_sweep(job: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _signal(job, signal.SIGTERM)
    time.sleep(PATIENCE_S)
    _signal(job, signal.SIGKILL)


def _signal(job: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(job.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
