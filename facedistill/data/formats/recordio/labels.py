"""What the records of an insightface set are: images with labels, one header, ranges of identities.

Each payload begins with mxnet's IRHeader `IfQQ`: flag, label, id, id2. A flag above zero means that so many
float32 labels follow, of which the first is the identity, and the field `label` means nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedistill.data.formats.recordio.index import HEAD, LENGTH_MASK, Records, join_parts, words_of
from facedistill.errors import DataError

IR_HEADER = struct.Struct("<IfQQ")
_EXACT_FLOAT32 = 1 << 24  # above it float32 skips whole numbers
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Headers:
    """Columns of R records in the order of the file.

    Attributes:
        offsets: (R,) int64 byte where the record begins.
        spans: (R,) int64 bytes of the record, framing and padding included.
        split: (R,) bool, whether it consists of several parts.
        keys: (R,) int64, distinct.
        flags: (R,) int64 number of labels beyond the header.
        labels: (R,) float32 first label.
        contents: (R,) int64 first byte of the image: in the file, or in the joined payload of a split record.
        sizes: (R,) int64 bytes of the image; 0 in header and identity records.
    """

    offsets: np.ndarray
    spans: np.ndarray
    split: np.ndarray
    keys: np.ndarray
    flags: np.ndarray
    labels: np.ndarray
    contents: np.ndarray
    sizes: np.ndarray


def read_headers(path: Path, records: Records) -> Headers:
    """Reads the header of every record.

    Raises:
        DataError: If a record is too short for the header that it announces.
    """
    count = len(records.offsets)
    flags, ids, contents, sizes = (np.zeros(count, dtype=np.int64) for _ in range(4))
    labels = np.zeros(count, dtype=np.float32)
    spans = np.diff(np.append(records.offsets, records.end))
    if count:
        words = words_of(path)
        for start in range(0, count, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            places = records.offsets[chunk] // 4
            last = len(words) - 1
            length = (words[places + 1] & LENGTH_MASK).astype(np.int64)
            flags[chunk] = words[np.minimum(places + 2, last)]
            ids[chunk] = words[np.minimum(places + 4, last)]  # the low half; keys above 2^32 do not occur
            first = words[np.minimum(np.where(flags[chunk] > 0, places + 8, places + 3), last)]
            labels[chunk] = first.view(np.float32)
            contents[chunk] = records.offsets[chunk] + HEAD.size + IR_HEADER.size + 4 * flags[chunk]
            sizes[chunk] = length - IR_HEADER.size - 4 * flags[chunk]
            sizes[chunk][length < IR_HEADER.size] = -1
    for place in np.flatnonzero(records.split):
        columns = _split_header(path, int(records.offsets[place]), int(spans[place]))
        flags[place], labels[place], ids[place], contents[place], sizes[place] = columns
    if (sizes < 0).any():
        bad = int(np.flatnonzero(sizes < 0)[0])
        raise DataError(
            f"{path}: the record at byte {records.offsets[bad]} is shorter than its header says; copy the file "
            "again, or list what is readable with `facedistill data verify`"
        )
    keys = records.keys
    if keys is None:  # insightface writes the key into the header too; other writers count
        keys = ids if len(np.unique(ids)) == count else np.arange(count)
    return Headers(records.offsets, spans, records.split, keys, flags, labels, contents, sizes)


def image_records(
    path: Path, headers: Headers, *, allow_missing: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) records that are images, in the order of their keys, and their (N,) int64 labels as stored.

    Args:
        path: For messages.
        headers: Of all records.
        allow_missing: Whether images that the header record names may be absent (a file read up to a damage).

    Raises:
        DataError: If header and images contradict each other, or a label is no whole number from 0 on.
    """
    order = np.argsort(headers.keys, kind="stable")
    keys = headers.keys[order]
    if len(keys) and keys[0] == 0 and headers.flags[order[0]] > 0 and headers.sizes[order[0]] == 0:
        first_identity = _first_identity(path, headers, order)
        images = order[(keys >= 1) & (keys < first_identity)]
        unnamed = int(headers.sizes[order[keys >= first_identity]].astype(bool).sum())
        if unnamed or (len(images) != first_identity - 1 and not allow_missing):
            raise DataError(
                f"{path}: its header record names {first_identity - 1} images, but the file holds "
                f"{len(images) + unnamed}; copy .rec and .idx again, both of the same set"
            )
    else:
        images = order
    stored = headers.labels[images]
    bad = ~np.isfinite(stored) | (stored < 0) | (stored != np.floor(stored)) | (stored >= _EXACT_FLOAT32)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{path}, byte {headers.offsets[images[place]]} has label {stored[place]:g}, and labels are whole "
            f"numbers from 0 on ({int(bad.sum())} of {len(stored)} images are wrong); copy the file again"
        )
    return images, stored.astype(np.int64)


def _first_identity(path: Path, headers: Headers, order: np.ndarray) -> int:
    """Key of the first identity record, which is one more than the number of images.

    The header says it as float32, which is not exact above 2^24: there, the identity records tell.
    """
    said = float(headers.labels[order[0]])
    if not np.isfinite(said) or said < 1 or said != int(said) or said > 1 << 40:
        raise DataError(f"{path}: its header record says that images end at {said:g}; copy the file again")
    if said < _EXACT_FLOAT32:
        return int(said)
    keys, empty = headers.keys[order[1:]], headers.sizes[order[1:]] == 0
    trailing = len(empty) - int(np.argmin(empty[::-1])) if not empty.all() else 0
    found = int(keys[trailing]) if trailing < len(keys) else int(keys[-1]) + 1
    return found if np.float32(found) == np.float32(said) else int(said)


def _split_header(path: Path, offset: int, span: int) -> tuple[int, float, int, int, int]:
    with path.open("rb") as file:
        file.seek(offset)
        payload = join_parts(file.read(span))
    if len(payload) < IR_HEADER.size:
        return 0, 0.0, 0, 0, -1
    flag, label, number, _ = IR_HEADER.unpack_from(payload)
    content = IR_HEADER.size + 4 * flag
    if flag and len(payload) >= content:
        (label,) = struct.unpack_from("<f", payload, IR_HEADER.size)
    return flag, label, number & 0xFFFFFFFF, content, len(payload) - content
