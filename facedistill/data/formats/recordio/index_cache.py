"""The index of a large RecordIO file, kept in the cache folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facedistill.assets import cache_dir
from facedistill.data.formats.recordio.labels import Headers
from facedistill.errors import UserError
from facedistill.system.files import write_npz

_SLOW_S = 3.0
_VERSION = 1


def kept_index(path: Path, make: Callable[[], Headers]) -> Headers:
    """What `make` finds in `path`, or found in the same file before; kept when finding it took seconds.

    A file is the same if its path, size and time of change are, and those of its `.idx`.
    """
    place = cache_dir() / "recordio" / f"{_key(path)}.npz"
    if place.is_file():
        broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with contextlib.suppress(*broken), np.load(place, allow_pickle=False) as columns:
            return Headers(**{field.name: columns[field.name] for field in dataclasses.fields(Headers)})
    start = time.monotonic()
    headers = make()
    complete = len(headers.offsets) and headers.offsets[-1] + headers.spans[-1] == path.stat().st_size
    if complete and time.monotonic() - start > _SLOW_S:
        with contextlib.suppress(UserError):  # a cache that cannot be written costs time, nothing else
            _store(place, headers)
    return headers


def _key(path: Path) -> str:
    digest = hashlib.sha256(f"{_VERSION} {path.resolve()}".encode("utf-8", "surrogateescape"))
    for file in (path, path.with_suffix(".idx")):
        with contextlib.suppress(OSError):
            state = file.stat()
            digest.update(f" {state.st_size} {state.st_mtime_ns}".encode())
        digest.update(b";")
    return digest.hexdigest()[:16]


def _store(path: Path, headers: Headers) -> None:
    columns = {field.name: getattr(headers, field.name) for field in dataclasses.fields(headers)}
    write_npz(path, **columns)
