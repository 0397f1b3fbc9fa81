"""One process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 2.0  # another process may be testing the lock at this moment


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Holds the lock file `path`; others wait. It is released when closed, also when the process dies."""
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def held(path: Path, note: str) -> Iterator[None]:
    """Holds the lock file `path`, which says `note` meanwhile, and removes it at the end.

    The kernel releases it when the process dies, however it dies; on a shared file system that carries flock (NFS 4)
    this holds between machines too.

    Raises:
        BlockingIOError: If another process holds it; the message is that process's note.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise BlockingIOError(path.read_text().strip()) from None
        os.close(descriptor)
        time.sleep(0.05)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, note.encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """The note of the process that holds the lock file `path`; None if no process does."""
    try:
        with path.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read().strip() or "another process"
    except FileNotFoundError:
        pass
    return None


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one that lies there now; its last holder may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
