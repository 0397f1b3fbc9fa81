"""One job on a machine of a cluster: what the sweep calls there. Imports nothing heavy, and no Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from facedistill.sweeps.launchers.guard import start_guarded

Stamp = tuple[int, int, int]
"""Inode, size and time of change of a file: equal while its contents are the same."""
LOG = "log"
_JOB = "job.yaml"


class Worker:
    """Starts a job in a fresh process tree and answers for it while it runs.

    Args:
        folder: Where the job is started; all machines see it. None: a temporary folder of this machine, to which the
            files of the run are written and from which they are read.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._own = None if folder else Path(tempfile.mkdtemp(prefix="facedistill-"))
        self._start = Path(folder) if folder else Path(tempfile.gettempdir())
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._open: dict[str, BinaryIO] = {}

    def where(self) -> tuple[str, str]:
        """Name of this machine, and the folder; the answer says that the worker exists."""
        return socket.gethostname(), str(self._own or self._start)

    def run(self, config: str, log: str | None, threads: int, trust: Sequence[str] = ()) -> tuple[int, str]:
        """Runs `facedistill train --config` under a guard that ends it if this process dies, and waits for its end.

        Args:
            config: Path of the job's file; its text where the worker has a temporary folder.
            log: What the job prints is appended here; None with a temporary folder.
            threads: `OMP_NUM_THREADS` of the job.
            trust: The sweep's `trust=` arguments.

        Returns:
            The exit code, and a sentence if the job could not be started.
        """
        if self._own is not None:
            log = str(self._own / LOG)
            (self._own / _JOB).write_text(config, encoding="utf-8")
            config = str(self._own / _JOB)
        elif not os.path.isfile(config):
            return 1, (
                f"{socket.gethostname()} has no {config}; put runs_dir in a folder that all machines share, or use "
                "launcher.storage=copy"
            )
        command = [sys.executable, "-m", "facedistill", "train", "--config", config, *trust]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = start_guarded(command, str(log), environment, self._start)
        if self._stopped:
            self.stop()
        return self._process.wait(), ""

    def stop(self) -> None:
        """Asks the job to finish its step, save and end."""
        self._stopped = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the job."""
        self._stopped = True
        self._signal(signal.SIGQUIT)

    def close(self) -> None:
        """Deletes the temporary folder."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def write(self, name: str, content: bytes) -> None:
        """Appends to a file of the run in the temporary folder."""
        path = self._file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(content)

    def files(self, known: dict[str, Stamp], endings: Sequence[str]) -> dict[str, Stamp]:
        """The run's files that may be read until the next call, checkpoints opened first.

        A checkpoint is replaced as one file, and the files that are appended to are opened after it, so what is read
        is never older than the checkpoint that is read.

        Args:
            known: Files that the sweep has; those that have not changed since are not opened.
            endings: Of files that are not complete and are left out.

        Returns:
            All files, changed or not.
        """
        for file in self._open.values():
            file.close()
        self._open = {}
        assert self._own is not None
        found: dict[str, Stamp] = {}
        for path in sorted(self._own.rglob("*"), key=lambda path: (path.suffix != ".ckpt", path)):
            name = str(path.relative_to(self._own))
            if path.is_symlink() or not path.is_file() or path.name in (_JOB, "run.lock"):
                continue
            if name.endswith(tuple(endings)):
                continue
            with contextlib.suppress(FileNotFoundError):  # replaced or deleted meanwhile
                file = path.open("rb")
                about = os.fstat(file.fileno())
                found[name] = about.st_ino, about.st_size, about.st_mtime_ns
                if known.get(name) == found[name]:
                    file.close()
                else:
                    self._open[name] = file
        return found

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A part of a file that `files` has opened."""
        return os.pread(self._open[name].fileno(), size, offset)

    def _file(self, name: str) -> Path:
        assert self._own is not None
        path = (self._own / name).resolve()
        if not path.is_relative_to(self._own.resolve()):
            raise ValueError(f"{name} is outside the run")
        return path

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
