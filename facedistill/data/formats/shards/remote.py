"""Shards in a store such as S3: whole shards in a bounded local cache, single images of those that do not fit."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import zipfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facedistill.assets import cache_dir
from facedistill.data.formats.shards.files import Indexer, ShardIndex
from facedistill.data.formats.shards.note import check_note, parse_note
from facedistill.data.formats.shards.paths import braces
from facedistill.data.formats.shards.writer import NOTE
from facedistill.errors import ConfigError, DataError, UserError, os_errors_as
from facedistill.system.files import write_npz
from facedistill.system.locks import one_at_a_time
from facedistill.system.store import Store

LIMIT = "FACEDISTILL_REMOTE_CACHE_GB"
_DEFAULT_GB = 50.0


class RemoteShards:
    """Shards at an fsspec address; see `ShardFiles`.

    A shard is copied to the cache when the set is opened, as long as all cached shards take less than
    `$FACEDISTILL_REMOTE_CACHE_GB` (50); shards of other sets are deleted, the least recently opened first. Images of shards
    that do not fit are read one by one from the store. The index of every shard is kept, so that it is read once.
    Several processes share the cache.

    Args:
        address: A folder of .tar files, one of them, or a pattern of them.

    Raises:
        DataError: If there is no shard, or the store cannot be read.
    """

    def __init__(self, address: str) -> None:
        folder, _, pattern = address.rpartition("/")
        is_folder = not pattern.endswith(".tar")
        self._store = Store(address if is_folder else folder)
        self._found = {name: file for name, file in self._store.files().items() if name.endswith(".tar")}
        self._names = (
            sorted(self._found) if is_folder else list(_named(pattern, sorted(self._found), address))
        )
        if not self._names:
            raise DataError(f"{address}: holds no .tar file; check the bucket and the path")
        self._folder = cache_dir() / "remote" / hashlib.sha256(self._store.address.encode()).hexdigest()[:16]
        self._limit = _limit()
        self._note = (
            parse_note(self._store.read(NOTE), self._store.where(NOTE)) if self._store.has(NOTE) else None
        )

    def __len__(self) -> int:
        return len(self._names)

    def where(self, number: int) -> str:
        """The address."""
        return self._store.where(self._names[number])

    def note(self, num_images: int | None) -> dict[str, Any] | None:
        """That of the store."""
        if self._note is not None and num_images is not None:
            check_note(self._store.address, self._names, len(self._found), self._note, num_images)
        return self._note

    def read(self, number: int, start: int, size: int) -> bytes:
        """Reads from the cached shard, or from the store if it is not cached."""
        with contextlib.suppress(FileNotFoundError), self._path(number).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, start)
        return self._store.read_range(self._names[number], start, size)

    def index(self, number: int, indexer: Indexer) -> ShardIndex:
        """Copies the shard to the cache if it fits there, and reads its index, or finds it in the cache."""
        path = self._path(number)
        with os_errors_as(
            DataError, f"{self._folder}: cannot be written", "free space or set FACEDISTILL_CACHE"
        ):
            self._folder.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self._folder / f".{self._names[number]}.lock"):
                kept = _load(path.with_suffix(".npz"))
                with self._local(number, path, needed=kept is None) as local:
                    if kept is not None:
                        return kept
                    with local.open("rb", buffering=0) as file:
                        size = os.fstat(file.fileno()).st_size
                        made = indexer(file.fileno(), size, self.where(number))
                _store(path.with_suffix(".npz"), made)
                return made

    @contextlib.contextmanager
    def _local(self, number: int, path: Path, *, needed: bool) -> Iterator[Path]:
        """The shard as a local file, which stays in the cache if it fits."""
        if path.is_file():
            os.utime(path)
            yield path
            return
        part = path.with_suffix(".writing")
        try:
            fits = self._reserve(part, self._found[self._names[number]][0])
            if fits or needed:
                self._download(number, part)
            if fits:
                os.replace(part, path)
            yield path if fits else part
        finally:
            part.unlink(missing_ok=True)

    def _download(self, number: int, part: Path) -> None:
        name = self._names[number]
        self._store.download(name, part)
        said = self._note["shards"].get(name, {}).get("sha256") if self._note else None
        with part.open("rb") as file:
            if said is not None and hashlib.file_digest(file, "sha256").hexdigest() != said:
                raise DataError(f"{self.where(number)}: its sha256 is not the one in {NOTE}; upload it again")

    def _reserve(self, part: Path, size: int) -> bool:
        """Whether a file of `size` bytes fits into the cache; it then exists with that size, and counts."""
        with one_at_a_time(self._folder.parent / ".lock"):
            cached = {}
            for path in self._folder.parent.glob("*/*"):
                if path.suffix in (".tar", ".writing") and path != part:
                    with contextlib.suppress(FileNotFoundError):
                        cached[path] = path.stat()
            total = size + sum(one.st_size for one in cached.values())
            for path in sorted(cached, key=lambda path: cached[path].st_mtime):
                if total > self._limit >= size and path.parent != self._folder:
                    path.unlink(missing_ok=True)
                    total -= cached[path].st_size
            if total <= self._limit:
                part.touch()
                os.truncate(part, size)
            return total <= self._limit

    def _path(self, number: int) -> Path:
        """Where the shard is cached; a shard that was written again in the store has another name."""
        name = self._names[number]
        version = hashlib.sha256(self._found[name][1].encode()).hexdigest()[:12]
        return self._folder / f"{name.removesuffix('.tar')}-{version}.tar"


def _named(pattern: str, there: list[str], address: str) -> Iterator[str]:
    for one in braces(pattern):
        matches = fnmatch.filter(there, one)
        if not matches:
            raise DataError(f"{address}: {one} is not there; give the address of existing shards")
        yield from matches


def _limit() -> int:
    text = os.environ.get(LIMIT, str(_DEFAULT_GB))
    try:
        if not 0 <= float(text) < 1e9:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{LIMIT}={text}: must be a number of gigabytes from 0") from None
    return int(float(text) * 1e9)


def _load(path: Path) -> ShardIndex | None:
    broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*broken), np.load(path, allow_pickle=False) as columns:
        headers, starts, sizes = (
            array("q", columns[key].tobytes()) for key in ("headers", "starts", "sizes")
        )
        labels = columns["labels"].tolist() if "labels" in columns else [None] * len(starts)
        return ShardIndex(labels, headers, starts, sizes)
    return None


def _store(path: Path, index: ShardIndex) -> None:
    """Keeps the index of an intact shard whose labels are of one kind."""
    kinds = {type(label) for label in index.labels}
    if index.damaged or len(kinds) > 1:
        return
    columns = {key: np.array(getattr(index, key), np.int64) for key in ("headers", "starts", "sizes")}
    if kinds != {type(None)}:
        columns["labels"] = np.array(index.labels)
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time, nothing else
        write_npz(path, **columns)
