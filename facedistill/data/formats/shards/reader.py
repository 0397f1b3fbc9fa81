"""Faces in WebDataset tar shards: `000000.jpg`, `000000.cls` in `000000.tar`, `000001.tar`, …"""

from __future__ import annotations

import functools
import os
import sys
from array import array
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facedistill.data.formats.fingerprint import fingerprint_of, with_bytes_id
from facedistill.data.formats.shards.note import check_note, read_note
from facedistill.data.formats.shards.paths import shard_paths
from facedistill.data.formats.shards.samples import IMAGES, image_and_label, labels_of, samples
from facedistill.data.formats.shards.tar_members import members
from facedistill.data.formats.shards.writer import write_shards
from facedistill.errors import DataError
from facedistill.system.progress import ProgressBar

__all__ = ["ShardFaces", "shard_paths", "write_shards"]

_MOST_OPEN = 64


class ShardFaces:
    """Labelled or unlabelled faces in tar shards, with random access; see `FaceSet`.

    Members belong together when they follow one another and agree up to the first dot of the file name, as in
    WebDataset. A sample has one image (.jpg, .jpeg, .png, .webp), and its label in `.cls` (a whole number) or
    in `.json` ("label", a whole number, or "identity", a name). Labels are renumbered without gaps;
    `identities` keeps what they were. Opening reads every header and label once, and no image.

    Args:
        path: A folder of .tar files, one of them, or a pattern: `train-{000000..000123}.tar`, `train-*.tar`.
        truncated: "refuse" a shard that is cut short or damaged; "drop" reads what comes before the damage, and
            says on standard error what is left out.
        quiet: Whether to show no progress and no note.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`.
        damage: With "drop", one sentence per shard or sample that was left out.

    Raises:
        DataError: In one sentence, if there is no shard, or one is not what it should be.
    """

    def __init__(
        self, path: str | Path, *, truncated: Literal["refuse", "drop"] = "refuse", quiet: bool = False
    ) -> None:
        self.path = Path(path)
        self._paths = shard_paths(path)
        self.damage: list[str] = []
        self._open = functools.lru_cache(_MOST_OPEN)(_File)
        self._shards, self._headers, self._starts, self._sizes = (
            array("i"),
            array("q"),
            array("q"),
            array("q"),
        )
        found: list[int | str | None] = []
        with ProgressBar(f"indexing {self.path.name}", len(self._paths), "shards", quiet=quiet) as progress:
            for number, shard in enumerate(self._paths):
                self._index(number, shard, found, drop=truncated == "drop", quiet=quiet)
                progress.advance()
        if not found:
            raise DataError(
                f"{path}: holds no images ({', '.join(sorted(IMAGES))}); give the shards of a face set"
            )
        note = read_note(self._paths)
        if note is not None and not self.damage:
            check_note(self._paths, note, len(found))
        self.labels, self.identities = labels_of(self.path, found, note)
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
        path = self._paths[self._shards[index]]
        try:
            data = os.pread(self._open(path).fd, self._sizes[index], self._starts[index])
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if len(data) != self._sizes[index]:
            raise DataError(f"{self.where(index)} is gone: the file changed while it was read; start again")
        return data

    def where(self, index: int) -> str:
        """`…/000003.tar, byte 8192`: where the header of one image begins."""
        return f"{self._paths[self._shards[index]]}, byte {self._headers[index]}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=functools.lru_cache(_MOST_OPEN)(_File))

    def _index(
        self, number: int, path: Path, found: list[int | str | None], *, drop: bool, quiet: bool
    ) -> None:
        try:
            fd = self._open(path).fd
            for sample in samples(members(fd, path.stat().st_size, str(path))):
                try:
                    image, label = image_and_label(fd, path, sample)
                except DataError as error:
                    self._note_damage(error, drop, quiet)
                    continue
                found.append(label)
                self._shards.append(number)
                for column, value in zip((self._headers, self._starts, self._sizes), image[1:], strict=True):
                    column.append(value)
        except DataError as error:
            self._note_damage(error, drop, quiet)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error

    def _note_damage(self, error: DataError, drop: bool, quiet: bool) -> None:
        if not drop:
            raise error
        self.damage.append(str(error))
        if not quiet:
            print(f"left out: {error}", file=sys.stderr)


class _File:
    """An open file that is closed with its last reader."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)
