"""InsightFace's RecordIO sets (`train.rec`, `.idx`, `property`), without mxnet."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.data.formats.index_cache import kept_index
from facedistill.data.formats.recordio.index import find_records, join_parts
from facedistill.data.formats.recordio.labels import Headers, image_records, read_headers
from facedistill.data.formats.recordio.writer import write_recordio
from facedistill.errors import DataError, reason

__all__ = ["RecordIOFaces", "write_recordio"]


class RecordIOFaces:
    """A labeled set of faces in one `.rec` file; see `FaceSet`.

    Reads both of insightface's layouts: record 0 a header that says where images end and identity records begin,
    or images only. Labels may have gaps; they are renumbered in their order, and `identities` keeps the
    original numbers. Images come in the order of their keys. A set whose images all bear one label says
    nothing about identity, and is unlabeled (`labels` None).

    An `.idx` that is missing, stale or damaged is replaced by walking the `.rec`. What took long to find out
    is stored in the cache folder; nothing is written next to the user's files.

    Args:
        path: The `.rec` file, or the folder that holds it.
        truncated: "refuse" a file that ends, or is damaged, within a record; "drop" reads the whole records
            before that place and says on standard error what is left out.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`.
        path: The `.rec` file.
        damage: With "drop", one sentence that says from where on the file is left out; else empty.

    Raises:
        DataError: In one sentence, if the files are not a whole, consistent set of labeled images.
    """

    def __init__(self, path: str | Path, *, truncated: Literal["refuse", "drop"] = "refuse") -> None:
        self.path = _rec_file(Path(path))
        self._fd: int | None = None
        self.damage: list[str] = []
        headers = kept_index(
            "recordio",
            self.path,
            Headers,
            lambda: _index(self.path, truncated, self.damage),
            lambda made: _is_complete(made, self.path),
        )
        images, labels = image_records(self.path, headers, allow_missing=truncated == "drop")
        if not len(images):
            raise DataError(f"{self.path}: holds no images; give the .rec of a training set")
        names, found = np.unique(labels, return_inverse=True)
        _check_property(self.path, labels, names, allow_fewer=truncated == "drop")
        self.labels: np.ndarray | None = found.astype(np.int64).reshape(-1) if len(names) > 1 else None
        self.identities: list[str] = [str(name) for name in names] if len(names) > 1 else []
        self._offsets = headers.offsets[images]
        self._starts = headers.contents[images]
        self._sizes = headers.sizes[images]
        self._spans = np.where(headers.split[images], headers.spans[images], 0)
        self.fingerprint = fingerprint_of(self._sizes, self.labels, self.identities, self.encoded)

    def __len__(self) -> int:
        """N, the number of images; header and identity records are none."""
        return len(self._starts)

    def encoded(self, index: int) -> bytes:
        """The file of one image, as stored.

        Raises:
            DataError: If the `.rec` has become shorter since it was opened, or cannot be read.
        """
        if self._fd is None:
            self._fd = self._open()
        start, size, span = int(self._starts[index]), int(self._sizes[index]), int(self._spans[index])
        try:
            if span:
                data = join_parts(os.pread(self._fd, span, int(self._offsets[index])))[start:]
            else:
                data = os.pread(self._fd, size, start)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({reason(error)})") from error
        if len(data) != size:
            raise DataError(f"{self.where(index)} is gone: the file changed while it was read; start again")
        return data

    def where(self, index: int) -> str:
        """`…/train.rec, byte 8192`: where the record of one image begins."""
        return f"{self.path}, byte {self._offsets[index]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fd": None}

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)  # type: ignore[arg-type]

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({reason(error)})") from error


def _rec_file(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{path}: is not there; give a .rec file or the folder that holds train.rec")
        return path
    if (path / "train.rec").is_file():
        return path / "train.rec"
    found = sorted(path.glob("*.rec"))
    if len(found) != 1:
        raise DataError(f"{path}: holds {len(found)} .rec files and no train.rec; give the file itself")
    return found[0]


def _index(path: Path, truncated: str, damage: list[str]) -> Headers:
    records = find_records(path)
    if records.problem is not None:
        whole = f"{len(records.offsets)} whole records before it"
        if truncated != "drop":
            raise DataError(
                f"{path}: {records.problem}, with {whole}; copy it again, or list what is readable with "
                "`facedistill data verify`"
            )
        damage.append(f"{path}: {records.problem}, with {whole}")
        left = path.stat().st_size - records.end
        print(f"{path}: {records.problem}; reading the {whole}, leaving out {left} bytes", file=sys.stderr)
    elif records.idx_problem is not None:
        print(
            f"{path}: {records.idx_problem}; found {len(records.offsets)} records by walking the file",
            file=sys.stderr,
        )
    return read_headers(path, records)


def _check_property(path: Path, labels: np.ndarray, names: np.ndarray, *, allow_fewer: bool) -> None:
    """Holds the set to its `property` (`K,H,W`), where there is one."""
    place = path.parent / "property"
    if not place.is_file():
        return
    text = place.read_text(encoding="utf-8", errors="replace").strip()
    try:
        count, high, wide = (int(field) for field in text.split(","))
    except ValueError:
        raise DataError(
            f"{place}: must say `identities,112,112`, got {text[:40]!r}; fix or delete it"
        ) from None
    if (high, wide) != (112, 112):
        raise DataError(
            f"{place}: says that the faces are {wide}x{high} pixels, and faces are 112x112; "
            "run `facedistill data align` on the photographs, or fix the file if it is wrong"
        )
    if count not in (len(names), int(names[-1]) + 1) and not (allow_fewer and len(names) < count):
        raise DataError(
            f"{place}: says {count} identities, but {path.name} holds {len(names)} in {len(labels)} images; "
            "copy both again, or delete property if it belongs to another set"
        )


def _is_complete(headers: Headers, path: Path) -> bool:
    """Whether the records reach the end of the file."""
    return bool(len(headers.offsets)) and headers.offsets[-1] + headers.spans[-1] == path.stat().st_size
