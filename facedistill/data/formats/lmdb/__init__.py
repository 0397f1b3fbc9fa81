"""LMDB databases, as HSFace (Vec2Face) and VFace (Vec2Face+) are published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedistill.data.formats.base import Format, Items, Truncated
from facedistill.data.formats.face_set import FaceSet


class Lmdb(Format):
    """`hsface10k.lmdb`, or a folder with `data.mdb`: a sample per key."""

    key = config = "lmdb"
    title = "LMDB"
    example = "an .lmdb file or a folder with data.mdb"
    suffixes = in_folder = frozenset({".lmdb", ".mdb"})
    reads_damaged = True

    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """See `LmdbFaces`."""
        from facedistill.data.formats.lmdb.reader import LmdbFaces

        return LmdbFaces(path, truncated=truncated)

    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """See `write_lmdb`."""
        from facedistill.data.formats.lmdb.writer import write_lmdb

        write_lmdb(target, items, names)
