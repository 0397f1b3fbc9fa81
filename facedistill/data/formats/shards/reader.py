"""Faces in WebDataset tar shards: `000000.jpg`, `000000.cls` in `000000.tar`, `000001.tar`, …"""

from __future__ import annotations

import sys
from array import array
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np

from facedistill.data.formats.fingerprint import fingerprint_of, with_bytes_id
from facedistill.data.formats.numbered import labels_of
from facedistill.data.formats.shards.files import LocalShards, ShardFiles, ShardIndex
from facedistill.data.formats.shards.paths import shard_paths
from facedistill.data.formats.shards.remote import RemoteShards
from facedistill.data.formats.shards.samples import IMAGES, image_and_label, samples
from facedistill.data.formats.shards.tar_members import members
from facedistill.data.formats.shards.writer import NOTE, write_shards
from facedistill.errors import DataError, os_errors_as
from facedistill.system.progress import ProgressBar
from facedistill.system.store import is_remote

__all__ = ["ShardFaces", "shard_paths", "write_shards"]


class ShardFaces:
    """Labeled or unlabeled faces in tar shards, with random access; see `FaceSet`.

    Members belong together when they follow one another and agree up to the first dot of the file name, as in
    WebDataset. A sample has one image (.jpg, .jpeg, .png, .webp), and its label in `.cls` (a whole number) or
    in `.json` ("label", a whole number, or "identity", a name). Labels are renumbered without gaps;
    `identities` keeps what they were. Opening reads every header and label once, and no image.

    Args:
        path: A folder of .tar files, one of them, or a pattern: `train-{000000..000123}.tar`, `train-*.tar`; each also at
            an fsspec address such as `s3://bucket/faces`, see `RemoteShards`.
        truncated: "refuse" a shard that is cut short or damaged; "drop" reads what comes before the damage, and
            says on standard error what is left out.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`.
        damage: With "drop", one sentence per shard or sample that was left out.

    Raises:
        DataError: In one sentence, if there is no shard, or one is not what it should be.
    """

    def __init__(self, path: str | Path, *, truncated: Literal["refuse", "drop"] = "refuse") -> None:
        self.path = path if is_remote(path) else Path(path)
        self._files: ShardFiles = RemoteShards(str(path)) if is_remote(path) else LocalShards(path)
        self.damage: list[str] = []
        self._shards, self._headers, self._starts, self._sizes = (
            array("i"),
            array("q"),
            array("q"),
            array("q"),
        )
        found: list[int | str | None] = []
        indexer = partial(self._indexed, drop=truncated == "drop")
        title = f"indexing {Path(path).name}"
        with ProgressBar(title, len(self._files), "shards") as progress:
            for number in range(len(self._files)):
                with os_errors_as(DataError, f"{self._files.where(number)}: cannot be read"):
                    index = self._files.index(number, indexer)
                found += index.labels
                self._shards.extend(repeat(number, len(index.labels)))
                self._headers += index.headers
                self._starts += index.starts
                self._sizes += index.sizes
                progress.advance()
        if not found:
            raise DataError(
                f"{path}: holds no images ({', '.join(sorted(IMAGES))}); give the shards of a face set"
            )
        note = self._files.note(None if self.damage else len(found))
        names = note["names"] if note else None
        self.labels, self.identities = labels_of(str(self.path), found, names, NOTE)
        sizes = np.frombuffer(self._sizes, np.int64)
        self.fingerprint = fingerprint_of(sizes, self.labels, self.identities, self.encoded)
        if note is not None and "id" in note:
            self.fingerprint = with_bytes_id(self.fingerprint, note["id"])

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._starts)

    def encoded(self, index: int) -> bytes:
        """The file of one image, as stored.

        Raises:
            DataError: If the shard has become shorter since it was opened, or cannot be read.
        """
        number = self._shards[index]
        with os_errors_as(DataError, f"{self._files.where(number)}: cannot be read"):
            data = self._files.read(number, self._starts[index], self._sizes[index])
        if len(data) != self._sizes[index]:
            raise DataError(f"{self.where(index)} is gone: the file changed while it was read; start again")
        return data

    def where(self, index: int) -> str:
        """`…/000003.tar, byte 8192`: where the header of one image begins."""
        return f"{self._files.where(self._shards[index])}, byte {self._headers[index]}"

    def _indexed(self, fd: int, size: int, where: str, *, drop: bool) -> ShardIndex:
        index, damage = ShardIndex(), len(self.damage)
        try:
            for sample in samples(members(fd, size, where)):
                try:
                    image, label = image_and_label(fd, where, sample)
                except DataError as error:
                    self._note_damage(error, drop)
                    continue
                index.labels.append(label)
                for column, value in zip((index.headers, index.starts, index.sizes), image[1:], strict=True):
                    column.append(value)
        except DataError as error:
            self._note_damage(error, drop)
        index.damaged = len(self.damage) > damage
        return index

    def _note_damage(self, error: DataError, drop: bool) -> None:
        if not drop:
            raise error
        self.damage.append(str(error))
        print(f"left out: {error}", file=sys.stderr)
