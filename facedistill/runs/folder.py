"""The folder of one run, `runs/<name>-<identity>/`: what is in it and how far the run got."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config.class_names import with_current_paths
from facedistill.errors import UserError
from facedistill.system.locks import held, holder

_PACKAGES = ("facedistill", "torch", "lightning", "timm", "numpy", "onnx", "onnxruntime")


class RunFolder:
    """Paths and record of a run; every file is replaced whole, never half-written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "last.ckpt"
        self.previous_checkpoint = path / "previous.ckpt"
        self.student = path / "student.safetensors"
        self.onnx = path / "student.onnx"
        self.results = path / "results.json"

    def pool_of(self, rank: int) -> Path:
        """Where process `rank` keeps the faces that it replays."""
        return self.path / (f"faces.{rank}.pool" if rank else "faces.pool")

    def remove_training_state(self) -> None:
        """Deletes what only a run in training needs: replayed faces of all processes, the checkpoint before the last."""
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
            raise UserError(
                f"runs_dir: cannot write to {self.path} ({error.strerror}); give a folder that can be written, "
                "runs_dir=/another/folder"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other process from running this run meanwhile; `run.lock` says who runs it.

        Raises:
            UserError: If another process does, or the folder cannot be written.
        """
        self.create()
        note = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.path / "run.lock", note))
            except BlockingIOError as error:
                raise UserError(
                    f"{self.path} is being run by {error}; wait for it, or stop it and give the same command again"
                ) from error
            try:
                yield
            finally:
                stack.close()
                if self.path.is_dir() and not any(
                    self.path.iterdir()
                ):  # a mistake was found before the first file
                    self.path.rmdir()

    @property
    def holder(self) -> str | None:
        """Who runs this run at this moment; None where nobody does."""
        return holder(self.path / "run.lock")

    def clear(self) -> None:
        """Deletes everything but the lock."""
        for child in self.path.glob("*"):
            if child.is_dir():
                shutil.rmtree(child, ignore_errors=True)
            elif child.name != "run.lock":
                child.unlink(missing_ok=True)

    def config(self) -> DictConfig | None:
        """The contents of config.yaml, its classes where they are now; None where there is none yet."""
        path = self.path / "config.yaml"
        if not path.exists():
            return None
        kept = OmegaConf.load(path)
        assert isinstance(kept, DictConfig)
        return with_current_paths(kept)

    def record(self) -> dict[str, Any]:
        """The contents of run.json, empty where there is none yet."""
        return read_json(self.path / "run.json")

    def update_record(self, **changes: Any) -> None:
        """Changes fields of run.json."""
        write_text(self.path / "run.json", json.dumps({**self.record(), **changes}, indent=2) + "\n")

    @property
    def is_trained(self) -> bool:
        """Whether the training has come to its end; figures may be missing."""
        return self.record().get("status") in ("trained", "finished") and self.student.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended with results."""
        return self.record().get("status") == "finished" and self.results.exists()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where the file is missing.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and give the same command again") from error


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or leaves the old one.

    Raises:
        UserError: If the disk is full or the folder cannot be written.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(text)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error.strerror}); free some space or change runs_dir"
        ) from error


def provenance(command: str) -> dict[str, Any]:
    """The command, code version, package versions and machine, for the run record."""
    return {
        "command": command,
        "git": _git_revision(),
        "versions": {
            "python": platform.python_version(),
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
    folder = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()
