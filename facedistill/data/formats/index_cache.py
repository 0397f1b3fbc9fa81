"""The index of a large file of faces, kept in the cache folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from facedistill.assets import cache_dir
from facedistill.errors import UserError
from facedistill.system.files import write_npz

Columns = TypeVar("Columns")

_SLOW_S = 3.0
_VERSION = 1


def kept_index(
    folder: str,
    path: Path,
    kind: type[Columns],
    make: Callable[[], Columns],
    complete: Callable[[Columns], bool],
) -> Columns:
    """What `make` finds in `path`, or found in the same file before; kept when finding it took seconds.

    A file is the same if its path, size and time of change are, and those of its `.idx`.

    Args:
        folder: Below the cache folder.
        path: The file.
        kind: A dataclass of NumPy arrays.
        make: Reads the file.
        complete: Whether an index may be kept.
    """
    place = cache_dir() / folder / f"{_key(path)}.npz"
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if place.is_file():
        broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with contextlib.suppress(*broken), np.load(place, allow_pickle=False) as columns:
            return kind(**{name: columns[name] for name in names})
    start = time.monotonic()
    made: Any = make()
    if time.monotonic() - start > _SLOW_S and complete(made):
        with contextlib.suppress(UserError):  # a cache that cannot be written costs time, nothing else
            write_npz(place, **{name: getattr(made, name) for name in names})
    return made


def _key(path: Path) -> str:
    digest = hashlib.sha256(f"{_VERSION} {path.resolve()}".encode("utf-8", "surrogateescape"))
    for file in (path, path.with_suffix(".idx")):
        with contextlib.suppress(OSError):
            state = file.stat()
            digest.update(f" {state.st_size} {state.st_mtime_ns}".encode())
        digest.update(b";")
    return digest.hexdigest()[:16]
