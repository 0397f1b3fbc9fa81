"""RecordIO files written byte by byte, knowing nothing of our writer."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from facedistill.data.formats.recordio.reader import RecordIOFaces
from facedistill.errors import DataError
from tests.helpers.errors import error_message

MAGIC = b"\x0a\x23\xd7\xce"
IMAGES = [f"image {number}".encode() * (number + 1) for number in range(6)]
LABELS = [3, 3, 7, 7, 7, 12]


def part(data: bytes, flag: int = 0) -> bytes:
    """A framed record, or a part of one."""
    return MAGIC + struct.pack("<I", flag * 2**29 + len(data)) + data + b"\0" * (-len(data) % 4)


def payload(labels: Sequence[float], key: int, image: bytes = b"") -> bytes:
    """IRHeader with labels behind it."""
    return struct.pack("<IfQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def plain(label: float, key: int, image: bytes) -> bytes:
    """IRHeader with the label inside."""
    return struct.pack("<IfQQ", 0, label, key, 0) + image


def insightface_records() -> list[tuple[int, bytes]]:
    """Images 1..6, record 0, three identity ranges: the order in which face2rec2 writes."""
    records = [
        (key, part(payload([label, 1], key, image)))
        for key, (label, image) in enumerate(zip(LABELS, IMAGES, strict=True), start=1)
    ]
    records.append((0, part(payload([7, 10], 0))))
    for key, ends in zip((7, 8, 9), ((1, 3), (3, 6), (6, 7)), strict=True):
        records.append((key, part(payload(ends, key))))
    return records


def write(
    folder: Path, records: Sequence[tuple[int, bytes]], *, idx: bool = True, prop: str | None = None
) -> Path:
    """`train.rec` and, where wanted, `train.idx` and `property`."""
    folder.mkdir(exist_ok=True)
    position, lines = 0, []
    for key, record in records:
        lines.append(f"{key}\t{position}\n")
        position += len(record)
    (folder / "train.rec").write_bytes(b"".join(record for _, record in records))
    if idx:
        (folder / "train.idx").write_text("".join(lines))
    if prop is not None:
        (folder / "property").write_text(prop)
    return folder / "train.rec"


def refused(path: Path, message: str, **arguments: str) -> None:
    """Demands the message with which a file is refused."""
    assert error_message(DataError, RecordIOFaces, path, **arguments) == message
