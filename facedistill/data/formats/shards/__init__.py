"""WebDataset tar shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from facedistill.data.formats.base import Format, Items, Truncated
from facedistill.data.formats.face_set import FaceSet
from facedistill.system.store import is_remote


class Shards(Format):
    """`000000.tar`, `000001.tar`, … of images with labels."""

    key, config, title = "shards", "webdataset", "tar shards"
    example = ".tar shards"
    suffixes = in_folder = frozenset({".tar"})
    takes_patterns = takes_addresses = True
    reads_damaged = True

    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """See `ShardFaces`."""
        from facedistill.data.formats.shards.reader import ShardFaces

        return ShardFaces(path, truncated=truncated)

    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """See `write_shards`."""
        from facedistill.data.formats.shards.writer import write_shards

        write_shards(target, items, names)

    def changed_files(self, path: str | Path) -> Iterator[str]:
        """A message for each shard whose sha256 is not the one in `faces.json`."""
        from facedistill.data.formats.shards.paths import shard_paths
        from facedistill.data.formats.shards.writer import NOTE

        if is_remote(path):  # compared when a shard is copied to the cache
            return
        paths = shard_paths(path)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            shards = json.loads((paths[0].parent / NOTE).read_text(encoding="utf-8"))["shards"]
            for shard in paths:
                if shard.name in shards:
                    with shard.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    if digest != shards[shard.name]["sha256"]:
                        yield f"{shard}: its sha256 is not the one in {NOTE}; copy it again"
