"""Where the records of a RecordIO file begin: from its `.idx` when that is right, else by walking the file.

A record is magic 0xced7230a, a word of three bits flag and 29 bits length, the payload, and zeros up to the next
multiple of four bytes. A payload that contains the magic at such a multiple is split there into parts (flag 1
first, 2 middle, 3 last; 0 whole) without it. Little-endian throughout (dmlc-core, `recordio.h`).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from facedistill.errors import DataError, reason

MAGIC = 0xCED7230A
HEAD = struct.Struct("<II")
LENGTH_BITS = 29
LENGTH_MASK = (1 << LENGTH_BITS) - 1
_CHUNK = 1 << 20
_SHOWN_FROM_BYTES = 1 << 26
_TOLD_EVERY = 1 << 16  # records between two movements of the progress bar


@dataclass(frozen=True)
class Records:
    """Places of R records in the order of the file.

    Attributes:
        offsets: (R,) int64 byte where the record begins.
        split: (R,) bool, whether it consists of several parts.
        keys: (R,) int64 keys of the `.idx`; None when it is missing or wrong.
        end: Byte after the last whole record.
        problem: What stops the walk at `end`, one clause; None when that is the end of the file.
        idx_problem: Why the `.idx` was not used, one clause; None when it was.
    """

    offsets: np.ndarray
    split: np.ndarray
    keys: np.ndarray | None
    end: int
    problem: str | None = None
    idx_problem: str | None = None


def find_records(path: Path) -> Records:
    """Finds every record; the `.idx` is believed only where it names each record of the file exactly once.

    Raises:
        DataError: If a file cannot be read.
    """
    idx_path = path.with_suffix(".idx")
    try:
        size = path.stat().st_size
        if size < HEAD.size:
            return Records(*_empty(), None, 0, f"is cut short: it has {size} bytes, less than one record")
        keys, offsets, idx_problem = _read_idx(idx_path)
        if keys is not None and offsets is not None:
            order = np.argsort(offsets, kind="stable")
            keys, offsets = keys[order], offsets[order]
            if len(offsets) and offsets[-1] >= size:
                return _cut_short(path, size, keys, offsets)
            split = _check_chain(path, offsets, size)
            if split is not None:
                return Records(offsets, split, keys, size)
            idx_problem = f"{idx_path.name} does not name each record of {path.name} once"
        return _walk(path, size, idx_problem)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({reason(error)})") from error


def words_of(path: Path) -> np.ndarray:
    """The file as little-endian 32-bit words, memory-mapped; up to three odd bytes at the end are left out."""
    return np.memmap(path, "<u4", "r", shape=(path.stat().st_size // 4,))


def _read_idx(path: Path) -> tuple[np.ndarray | None, np.ndarray | None, str | None]:
    """Keys and offsets, or why there are none."""
    if not path.exists():
        return None, None, f"{path.name} is missing"
    try:
        numbers = np.fromstring(
            path.read_bytes(), dtype=np.int64, sep=" "
        )  # text, ten times faster than split()
    except (ValueError, DeprecationWarning):
        return None, None, f"{path.name} is damaged"
    if not len(numbers) or len(numbers) % 2 or numbers.min() < 0 or numbers.max() == np.iinfo(np.int64).max:
        return None, None, f"{path.name} is damaged"
    keys, offsets = numbers[0::2], numbers[1::2]
    if len(np.unique(keys)) < len(keys):
        return None, None, f"{path.name} is damaged"
    return keys, offsets, None


def _check_chain(path: Path, offsets: np.ndarray, size: int) -> np.ndarray | None:
    """(R,) whether each record is split, if each ends exactly where the next begins; else None."""
    if offsets[0] != 0 or (offsets % 4).any() or size % 4 or offsets[-1] + HEAD.size > size:
        return None
    words = words_of(path)
    places = offsets // 4
    ends = np.append(offsets[1:], size)
    split = np.zeros(len(offsets), dtype=bool)
    for start in range(0, len(offsets), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        if (words[places[chunk]] != MAGIC).any():
            return None
        heads = words[places[chunk] + 1]
        flags, lengths = heads >> LENGTH_BITS, (heads & LENGTH_MASK).astype(np.int64)
        if ((flags != 0) & (flags != 1)).any():
            return None
        split[chunk] = flags == 1
        reached = offsets[chunk] + HEAD.size + (lengths + 3) // 4 * 4
        if ((reached != ends[chunk]) & (flags == 0)).any():
            return None
    if split.any():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for place in np.flatnonzero(split):
                if _record_end(view, int(offsets[place]), size)[0] != ends[place]:
                    return None
    return split


def _walk(path: Path, size: int, idx_problem: str | None) -> Records:
    """Goes from record to record until the end or the first that cannot be one."""
    offsets: list[int] = []
    split: list[int] = []
    problem = None
    columns = (
        TextColumn("indexing {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = not console.is_terminal or size < _SHOWN_FROM_BYTES
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        Progress(*columns, console=console, disable=hidden, transient=True) as progress,
    ):
        task = progress.add_task(path.name, total=size)
        position = 0
        while position < size:
            end, num_parts, problem = _record_end(view, position, size)
            if problem is not None:
                break
            if num_parts > 1:
                split.append(len(offsets))
            offsets.append(position)
            position = end
            if len(offsets) % _TOLD_EVERY == 0:
                progress.update(task, completed=position)
    is_split = np.zeros(len(offsets), dtype=bool)
    is_split[split] = True
    return Records(np.array(offsets, dtype=np.int64), is_split, None, position, problem, idx_problem)


def _cut_short(path: Path, size: int, keys: np.ndarray, offsets: np.ndarray) -> Records:
    """Records of a file that ends before the last one of its `.idx`; their keys where the `.idx` names just these."""
    found = _walk(path, size, None)
    idx, count = path.with_suffix(".idx").name, len(found.offsets)
    there = np.array_equal(offsets[:count], found.offsets)
    problem = f"has {size} bytes, but {idx} names a record at byte {offsets[-1]} (delete {idx} if it belongs to another file)"
    return replace(found, keys=keys[:count] if there else None, problem=problem)


def _record_end(view: mmap.mmap, start: int, size: int) -> tuple[int, int, str | None]:
    """Byte after the record at `start`, its number of parts, and what is wrong with it (or None)."""
    position, num_parts = start, 0
    while True:
        if position + 8 > size:
            return position, num_parts, f"is cut short: its last record begins at byte {start} of {size}"
        magic, head = HEAD.unpack_from(view, position)
        flag, length = head >> LENGTH_BITS, head & LENGTH_MASK
        if magic != MAGIC or flag not in ((0, 1) if num_parts == 0 else (2, 3)):
            return position, num_parts, f"is damaged: no record begins at byte {position} of {size}"
        end = position + 8 + (length + 3) // 4 * 4
        if end > size:
            missing = end - size
            return (
                position,
                num_parts,
                f"is cut short: the record at byte {start} lacks {missing} of its bytes (file of {size})",
            )
        num_parts += 1
        position = end
        if flag in (0, 3):
            return end, num_parts, None


def join_parts(data: bytes) -> bytes:
    """The payload of a split record, from all its bytes; the magic words left out when splitting come back."""
    parts = []
    position = 0
    while position < len(data):
        _, head = HEAD.unpack_from(data, position)
        length = head & LENGTH_MASK
        parts.append(data[position + 8 : position + 8 + length])
        position += 8 + (length + 3) // 4 * 4
    return struct.pack("<I", MAGIC).join(parts)


def _empty() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
