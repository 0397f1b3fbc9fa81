"""The files of a run on their way between the sweep's folder and a worker's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from facedistill.runs.folder import RunFolder
from facedistill.sweeps.launchers.worker import LOG, Stamp
from facedistill.system.files import UNFINISHED, atomic_path, write_atomically

_PART_BYTES = 16 << 20
_CONFIG = "config.yaml"

Ask = Callable[..., Any]
"""Calls a method of the worker, by name, and waits for the answer."""


class Transfer:
    """Sends a run to a worker that has a folder of its own, and brings back what it writes there.

    Args:
        ask: Calls the worker.
        scratch: The worker's folder, its `runs_dir`.
        folder: The run's folder here.
        log: What the job prints is appended here.
    """

    def __init__(self, ask: Ask, scratch: str, folder: RunFolder, log: Path) -> None:
        self._ask, self._scratch, self._log = ask, scratch, log
        self._folder = folder.path
        self._known: dict[str, Stamp] = {}
        self._logged = 0

    def job(self, path: Path) -> str:
        """A job's file for the worker: the same run in its own folder."""
        return _with_runs_dir(path, self._scratch)

    def send(self) -> None:
        """Sends the files of a run that was begun, so that the worker continues it."""
        for path in sorted(self._folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.name == "run.lock":
                continue
            if path.name.endswith(UNFINISHED):
                continue
            name = str(path.relative_to(self._folder.parent))
            if path.name == _CONFIG and path.parent == self._folder:
                self._ask("write", name, _with_runs_dir(path, self._scratch).encode())
                continue
            with path.open("rb") as file:
                self._ask("write", name, file.read(_PART_BYTES))
                while part := file.read(_PART_BYTES):
                    self._ask("write", name, part)

    def bring_back(self) -> None:
        """Brings what has changed since the last time.

        The checkpoint is written last here: whatever happens in between, no other file is older than it.
        """
        run = f"{self._folder.name}/"
        found = {
            name: stamp
            for name, stamp in self._ask("files", self._known, (UNFINISHED,)).items()
            if name == LOG or (name.startswith(run) and ".." not in Path(name).parts)
        }
        changed = [name for name, stamp in found.items() if self._known.get(name) != stamp]
        for name in sorted(changed, key=lambda name: name.endswith(".ckpt")):
            size = found[name][1]
            if name == LOG:
                with self._log.open("ab") as log:
                    for part in self._parts(name, self._logged, size):
                        log.write(part)
                self._logged = size
                continue
            with atomic_path(self._path(name)) as unfinished, unfinished.open("wb") as file:
                for part in self._parts(name, 0, size):
                    file.write(part)
            if name == f"{run}{_CONFIG}":
                config = self._path(name)
                write_atomically(config, _with_runs_dir(config, str(self._folder.parent)))
        for name in self._known.keys() - found.keys() - {LOG}:
            self._path(name).unlink(missing_ok=True)
        self._known = found

    def _parts(self, name: str, offset: int, size: int) -> Any:
        for start in range(offset, size, _PART_BYTES):
            yield self._ask("read", name, start, min(_PART_BYTES, size - start))

    def _path(self, name: str) -> Path:
        return self._folder.parent / name


def _with_runs_dir(path: Path, folder: str) -> str:
    config = OmegaConf.load(path)
    config.runs_dir = folder
    return OmegaConf.to_yaml(config)
