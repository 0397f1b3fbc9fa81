"""Where shards lie: the ones of a local folder, read in place."""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from facedistill.data.formats.shards.note import check_note, read_note
from facedistill.data.formats.shards.paths import shard_paths

_MOST_OPEN = 64


@dataclass
class ShardIndex:
    """The images of one shard.

    Attributes:
        labels: (n,) as stored.
        headers: (n,) bytes at which the headers of the images begin.
        starts: (n,) bytes at which the images begin.
        sizes: (n,) bytes of each image.
        damaged: Whether something was left out.
    """

    labels: list[int | str | None] = field(default_factory=list)
    headers: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    damaged: bool = False


Indexer = Callable[[int, int, str], ShardIndex]
"""Reads the index of an open shard: descriptor, size in bytes, what to call it in a message."""


class ShardFiles(Protocol):
    """Shards by number; pickles, and every process opens them by itself."""

    def __len__(self) -> int:
        """Number of shards."""
        ...

    def where(self, number: int) -> str:
        """What to call a shard in a message."""
        ...

    def index(self, number: int, indexer: Indexer) -> ShardIndex:
        """The index of a shard."""
        ...

    def read(self, number: int, start: int, size: int) -> bytes:
        """Bytes of a shard."""
        ...

    def note(self, num_images: int | None) -> dict[str, Any] | None:
        """What `faces.json` says, checked against the number of images if that is known."""
        ...


class LocalShards:
    """Shards of a local folder, file or pattern; see `ShardFiles`."""

    def __init__(self, path: str | Path) -> None:
        self._paths = shard_paths(path)
        self._open = _opener()

    def __len__(self) -> int:
        return len(self._paths)

    def where(self, number: int) -> str:
        """The path."""
        return str(self._paths[number])

    def index(self, number: int, indexer: Indexer) -> ShardIndex:
        """Reads the index in place."""
        path = self._paths[number]
        return indexer(self._open(path).fd, path.stat().st_size, str(path))

    def read(self, number: int, start: int, size: int) -> bytes:
        """Reads in place."""
        return os.pread(self._open(self._paths[number]).fd, size, start)

    def note(self, num_images: int | None) -> dict[str, Any] | None:
        """That of the folder of all shards."""
        note = read_note(self._paths)
        if note is not None and num_images is not None:
            folder = self._paths[0].parent
            names = [path.name for path in self._paths]
            check_note(str(folder), names, len(list(folder.glob("*.tar"))), note, num_images)
        return note

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=_opener())


class OpenFile:
    """An open file that is closed with its last reader."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def _opener() -> Callable[[Path], OpenFile]:
    return functools.lru_cache(_MOST_OPEN)(OpenFile)
