"""A small file system that can be filled."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults_report import Tally


@contextlib.contextmanager
def small_disk(folder: Path, tally: Tally) -> Iterator[Path | None]:
    """A file system of 8 MiB, enough for a replay pool; None, and noted, where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        tally.done["full disk left out: no right to mount a tmpfs"] = 1
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def fill(path: Path, leave: int) -> None:
    """Writes until the file system is full, then gives `leave` bytes back."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
