"""Faces in an LMDB database: `hsface10k.lmdb`, or a folder with `data.mdb`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedistill.data.formats.base import Truncated
from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.data.formats.index_cache import kept_index
from facedistill.data.formats.lmdb.samples import content_of, image_and_label
from facedistill.data.formats.lmdb.tree import Entry, entries
from facedistill.data.formats.numbered import LONGEST_NAME, labels_of
from facedistill.data.formats.shards.files import OpenFile
from facedistill.errors import DataError, os_errors_as
from facedistill.system.progress import ProgressBar

NAMES = b"__names__"
_COUNT = b"__len__"
_LARGEST_SAMPLE, _LARGEST_NAMES = 16 << 20, 256 << 20


@dataclass
class _Index:
    """Of N samples: bytes at which values begin, sizes of values and of images; labels as stored, empty for none.

    And the names of the identities, empty where the file has none.
    """

    starts: np.ndarray
    values: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    names: np.ndarray


class LmdbFaces:
    """Labeled or unlabeled faces in an LMDB file, in the order of the keys, read without LMDB's library; see `FaceSet`.

    Keys that begin with two underscores describe the set: `__len__` is compared with the number of samples, `__names__`
    (of our writer) are the identities' names, others are not read. `image_and_label` says what a value may be. Opening
    reads every value once; the index of a large file is kept in the cache.

    Args:
        path: The file, or the folder of `data.mdb`.
        truncated: "refuse" a damaged file; "drop" reads what comes before damage of the file, leaves damaged samples out,
            and says so on standard error.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`.
        damage: With "drop", one sentence per sample or part that was left out.

    Raises:
        DataError: In one sentence, if the file cannot be read, or holds no faces.
    """

    def __init__(self, path: str | Path, *, truncated: Truncated = "refuse") -> None:
        self.path = _file(Path(path))
        self.damage: list[str] = []
        self._file: OpenFile | None = None
        self._drop = truncated == "drop"
        with os_errors_as(DataError, f"{self.path}: cannot be read"):
            index = kept_index("lmdb", self.path, _Index, self._indexed, lambda made: not self.damage)
        if not len(index.starts):
            raise DataError(f"{self.path}: holds no faces; give an LMDB of encoded images")
        self._starts, self._values = index.starts, index.values
        found = index.labels.tolist() if len(index.labels) else [None] * len(index.starts)
        self.labels, self.identities = labels_of(str(self.path), found, index.names.tolist(), NAMES.decode())
        self.fingerprint = fingerprint_of(index.images, self.labels, self.identities, self.encoded)

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._starts)

    def encoded(self, index: int) -> bytes:
        """The file of one image, as stored.

        Raises:
            DataError: If it cannot be read any more.
        """
        with os_errors_as(DataError, f"{self.path}: cannot be read"):
            return image_and_label(
                self._value(int(self._starts[index]), int(self._values[index])), self.where(index)
            )[0]

    def where(self, index: int) -> str:
        """`data.mdb, byte 8192`: where the value of one sample begins."""
        return f"{self.path}, byte {self._starts[index]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _value(self, start: int, size: int, most: int = _LARGEST_SAMPLE) -> bytes:
        if size > most:
            raise DataError(
                f"{self.path}, byte {start} has {size:,} bytes, too many for a face; leave it out"
            )
        if self._file is None:
            self._file = OpenFile(self.path)
        return os.pread(self._file.fd, size, start)

    def _entries(self) -> Iterator[Entry]:
        if self._file is None:
            self._file = OpenFile(self.path)
        return entries(self._file.fd, os.fstat(self._file.fd).st_size, str(self.path))

    def _indexed(self) -> _Index:
        columns: list[tuple[int, int, int]] = []
        labels: list[int | str | None] = []
        stated, names = 0, None
        with ProgressBar(f"indexing {self.path.name}", self.path.stat().st_size >> 20, "MiB") as progress:
            done = 0
            try:
                for entry in self._entries():
                    if entry.key.startswith(b"__"):
                        stated = self._stated(entry) if entry.key == _COUNT else stated
                        names = entry if entry.key == NAMES else names
                        continue
                    where = f"{self.path}, byte {entry.start}"
                    try:
                        image, label = image_and_label(self._value(entry.start, entry.size), where)
                    except DataError as error:
                        self._note_damage(error)
                        continue
                    columns.append((entry.start, entry.size, len(image)))
                    labels.append(label)
                    done += entry.size
                    progress.advance((done >> 20) - progress.done)
            except DataError as error:
                self._note_damage(error)
        if len(labels) < stated and not self.damage:
            raise DataError(
                f"{self.path}: says {stated} samples and holds {len(labels)}; copy it again, or write it again"
            )
        found = np.array(columns, np.int64).reshape(-1, 3)
        kinds = {type(label) for label in labels}
        if len(kinds) > 1:  # the sentence about images without a label, or of two kinds
            labels_of(str(self.path), labels, None, NAMES.decode())
        given = np.array([]) if names is None else self._given_names(names, len(labels))
        kept = np.array(labels if kinds != {type(None)} else [])
        starts, values, images = map(np.ascontiguousarray, found.T)
        return _Index(starts, values, images, kept, given)

    def _stated(self, entry: Entry) -> int:
        """What `__len__` says; 0 if that cannot be read."""
        try:
            value = content_of(self._value(entry.start, min(entry.size, 1 << 10)))
        except (ValueError, RecursionError):
            return 0
        return value if type(value) is int else 0

    def _given_names(self, entry: Entry, num_samples: int) -> np.ndarray:
        """The names of our writer, of no more identities than there are samples."""
        try:
            given = content_of(self._value(entry.start, entry.size, _LARGEST_NAMES))
            if given.count(b"\0") >= num_samples:
                raise ValueError
            names = given.decode("utf-8", "surrogateescape").split("\0")
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise DataError(f"{self.path}: its {NAMES.decode()} are damaged; copy it again") from None
        if any(len(name) > LONGEST_NAME for name in names):
            raise DataError(f"{self.path}: has a name above {LONGEST_NAME} characters; shorten it")
        return np.array(names)

    def _note_damage(self, error: DataError) -> None:
        if not self._drop:
            raise error
        self.damage.append(str(error))
        print(f"left out: {error}", file=sys.stderr)


def _file(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path
