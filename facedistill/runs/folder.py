"""The folder of one run, `runs/<name>-<run id>/`."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config.class_names import with_current_paths
from facedistill.config.trust import refuse_foreign_code
from facedistill.errors import UserError, reason
from facedistill.reporting.record import RunRecord
from facedistill.system.files import refuse_aliases, refuse_links
from facedistill.system.locks import held, holder
from facedistill.system.version import VERSION

_PACKAGES = ("torch", "lightning", "timm", "numpy", "onnx", "onnxruntime")


class RunFolder:
    """Paths and record of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "last.ckpt"
        self.previous_checkpoint = path / "previous.ckpt"
        self.student = path / "student.safetensors"
        self.onnx = path / "student.onnx"
        self.results = path / "results.json"

    def remove_training_state(self) -> None:
        """Deletes what only training needs: replayed faces of all processes and the checkpoint before the last."""
        for file in [self.previous_checkpoint, *self.path.glob("faces*.pool")]:
            file.unlink(missing_ok=True)

    def create(self) -> None:
        """Makes the folder.

        Raises:
            UserError: If it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            is_run = (self.path / "run.json").exists()
            fix = (
                "copy the run to another folder"
                if is_run
                else "give another folder, runs_dir=/another/folder"
            )
            raise UserError(f"{self.path}: cannot be written ({reason(error)}); {fix}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Locks the folder, so that one process at a time trains, evaluates or reports the run; `run.lock` names it.

        Raises:
            UserError: If another process has locked it, it cannot be written, or it holds a symbolic link.
        """
        refuse_links(self.path)
        self.create()
        note = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.path / "run.lock", note))
            except BlockingIOError as error:
                raise self._locked(error) from error
            try:
                yield
            finally:
                stack.close()
                if self.path.is_dir() and not any(self.path.iterdir()):  # an error before the first file
                    self.path.rmdir()

    @property
    def holder(self) -> str | None:
        """The process that has locked the folder; None if none has."""
        return holder(self.path / "run.lock")

    def refuse_if_locked(self) -> None:
        """Raises a UserError if another process has locked the folder, or it holds a symbolic link; for reading it."""
        refuse_links(self.path)
        if holder := self.holder:
            raise self._locked(holder)

    def _locked(self, holder: object) -> UserError:
        return UserError(
            f"{self.path} is being run by {holder}; wait for it, or stop it and give the same command again"
        )

    def clear(self) -> None:
        """Deletes everything but the lock."""
        for child in self.path.glob("*"):
            if child.is_dir():
                shutil.rmtree(child, ignore_errors=True)
            elif child.name != "run.lock":
                child.unlink(missing_ok=True)

    def config(self) -> DictConfig | None:
        """The contents of config.yaml with the present paths of its classes; None if there is none yet.

        Raises:
            UserError: If it is no configuration, or names code that is not admitted; see `facedistill.config.trust`.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return None
        try:
            refuse_aliases(path.read_text(encoding="utf-8"), str(path))
            loaded = OmegaConf.load(path)
        except UserError:
            raise
        except Exception as error:  # whatever yaml finds wrong
            raise UserError(f"{path}: cannot be read ({reason(error)}); restore it from a copy") from error
        if not isinstance(loaded, DictConfig):
            raise UserError(f"{path}: is no configuration; restore it from a copy")
        config = with_current_paths(loaded)
        refuse_foreign_code(config, str(path))
        return config

    def record(self) -> RunRecord:
        """The contents of run.json, empty if there is none yet."""
        return RunRecord.load(self.path / "run.json")

    def update_record(self, **changes: Any) -> None:
        """Changes fields of run.json; None or an empty value removes one."""
        replace(self.record(), **changes).save(self.path / "run.json")

    @property
    def is_trained(self) -> bool:
        """Whether the training has reached its end; figures may be missing."""
        return self.record().status in ("trained", "finished") and self.student.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended with results."""
        return self.record().status == "finished" and self.results.exists()


def provenance(command: str) -> dict[str, Any]:
    """The command, code version, package versions and machine, for the run record."""
    return {
        "command": command,
        "git": _git_revision(),
        "versions": {
            "python": platform.python_version(),
            "facedistill": VERSION,
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {
            "system": platform.system(),
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _git_revision() -> str | None:
    """The commit of the code; `FACEDISTILL_REVISION` names it where the code lies without its repository, as in a container."""
    if named := os.environ.get("FACEDISTILL_REVISION"):
        return named
    folder = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()
