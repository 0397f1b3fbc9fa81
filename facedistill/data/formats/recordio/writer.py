"""Writes insightface's RecordIO layout, as its own preparation scripts do."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from facedistill.data.formats.recordio.index import HEAD, LENGTH_BITS, LENGTH_MASK, MAGIC
from facedistill.data.formats.recordio.labels import IR_HEADER
from facedistill.errors import DataError, reason
from facedistill.images import SIZE_PX
from facedistill.system.files import atomic_path

_MAGIC_BYTES = struct.pack("<I", MAGIC)
_MOST_IDENTITIES = 1 << 24


def write_recordio(path_prefix: str | Path, items: Iterable[tuple[bytes, int]]) -> int:
    """Writes `<prefix>.rec`, `.idx`, `.lst` and `property`, or nothing at all.

    Images get the keys 1 to N and two labels (identity, 1 for aligned); then follow record 0 (N + 1, and the key
    after the last record) and one record per run of equal labels (its first key and the key after its last),
    so images of one identity should come together, as insightface's do.

    Args:
        path_prefix: `folder/train` for insightface's names; the folder is made.
        items: (image file, identity), identities as whole numbers from 0 on.

    Returns:
        N, the number of images written.

    Raises:
        DataError: If there is no image, a label is no identity, a file exists already, or writing fails.
    """
    prefix = Path(path_prefix)
    targets = [prefix.with_name(prefix.name + suffix) for suffix in (".rec", ".idx", ".lst")]
    targets.append(prefix.with_name("property"))
    for target in targets:
        if target.exists():
            raise DataError(f"{target}: is there already; delete it or write into another folder")
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with _all_or_nothing(targets) as (rec, idx, lst, property_file):
            count, identities = _write(_Writer(rec, idx), lst, items)
            if not count:
                raise DataError(f"{targets[0]}: there are no images to write; give a set with images")
            property_file.write(f"{identities},{SIZE_PX},{SIZE_PX}\n".encode())
    except OSError as error:
        raise DataError(f"{prefix}.rec: cannot be written ({reason(error)})") from error
    return count


def frame(payload: bytes) -> bytes:
    """One record: the payload framed and padded, split wherever it holds the magic at a multiple of four."""
    parts, begin, found = [], 0, payload.find(_MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts.append(payload[begin:found])
            begin = found + 4
            found = payload.find(_MAGIC_BYTES, begin)
        else:
            found = payload.find(_MAGIC_BYTES, found + 1)
    parts.append(payload[begin:])
    framed = []
    for number, part in enumerate(parts):
        first, last = number == 0, number == len(parts) - 1
        flag = 0 if first and last else 1 if first else 3 if last else 2
        framed += [HEAD.pack(MAGIC, flag << LENGTH_BITS | len(part)), part, bytes(-len(part) % 4)]
    return b"".join(framed)


class _Writer:
    """Appends records and notes where they begin."""

    def __init__(self, rec: BinaryIO, idx: BinaryIO) -> None:
        self._rec, self._idx = rec, idx
        self._position = 0

    def add(self, key: int, labels: tuple[float, ...], image: bytes = b"") -> None:
        header = IR_HEADER.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels)
        if len(header) + len(image) > LENGTH_MASK:
            raise DataError(
                f"image {key} has {len(image)} bytes, and a record holds {LENGTH_MASK}; leave it out"
            )
        record = frame(header + image)
        self._rec.write(record)
        self._idx.write(f"{key}\t{self._position}\n".encode())
        self._position += len(record)


def _write(writer: _Writer, lst: BinaryIO, items: Iterable[tuple[bytes, int]]) -> tuple[int, int]:
    """Number of images and of distinct identities written."""
    runs: list[int] = []
    seen: set[int] = set()
    previous, key = None, 0
    for key, (image, label) in enumerate(items, start=1):
        if label != int(label) or not 0 <= label < _MOST_IDENTITIES:
            raise DataError(
                f"image {key} has label {label}, and labels are whole numbers from 0 on; number them"
            )
        if not image:
            raise DataError(f"image {key} has zero bytes; replace or remove it")
        writer.add(key, (float(label), 1.0), image)
        lst.write(f"1\t{key}\t{label}\n".encode())
        if label != previous:
            runs.append(key)
            previous = label
        seen.add(int(label))
    if key:
        last = key + 1
        writer.add(0, (float(last), float(last + len(runs))))
        for number, (begin, end) in enumerate(zip(runs, [*runs[1:], last], strict=True)):
            writer.add(last + number, (float(begin), float(end)))
    return key, len(seen)


@contextmanager
def _all_or_nothing(targets: list[Path]) -> Iterator[list[BinaryIO]]:
    """Files that get their names only when all are complete."""
    with ExitStack() as names, ExitStack() as handles:
        parts = [names.enter_context(atomic_path(target, DataError)) for target in targets]
        files: list[BinaryIO] = [handles.enter_context(part.open("wb")) for part in parts]
        yield files
