"""Members of a tar file by their headers: one read of 512 bytes each, contents untouched.

Understands ustar, GNU long names and pax headers. Every header's checksum is checked, and a file has to end as tar
files do, so that no damage hides members.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from facedistill.errors import DataError

BLOCK = 512
_LONGEST_NAME = 1 << 20
_CHUNK = 1 << 20
_PLAIN = b"0\x007"
_LONG_NAME = b"././@LongLink"  # what every writer calls such a member
_WITHOUT_CONTENT = b"5"  # folders
_REFUSED = {b"1": "a hard link", b"2": "a symbolic link", b"K": "a link", b"S": "a sparse file"}


class Member(NamedTuple):
    """A plain file in a tar: its name, the byte of its header, the byte of its content, the content's size."""

    name: str
    header: int
    start: int
    size: int


def members(fd: int, size: int, where: str) -> Iterator[Member]:
    """Yields the plain files of an open tar of `size` bytes, in order.

    Raises:
        DataError: If the file is cut short, damaged, compressed, or holds links.
    """
    position = 0
    long_name: str | None = None
    long_size: int | None = None
    while True:
        header = os.pread(fd, BLOCK, position)
        if len(header) < BLOCK:
            raise _damaged(where, f"is cut short: it ends at byte {size} without the mark that ends a tar")
        if header.count(0) == BLOCK:
            _check_end(fd, position, where)
            return
        _check_sum(header, position, where)
        length = _number(header[124:136], position, where)
        kind = header[156:157]
        if kind in _REFUSED:
            name = header[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
            raise DataError(
                f"{where}: byte {position} holds {_REFUSED[kind]} ({name}); pack the files themselves"
            )
        if kind in _PLAIN and long_size is not None:
            length = long_size
        if kind in _WITHOUT_CONTENT:
            length = 0
        start = position + BLOCK
        if start + length > size:
            raise _damaged(
                where,
                f"is cut short: byte {position} begins a member of {length} bytes, and the file ends at {size}",
            )
        if kind not in b"Lxg5" + _PLAIN or (kind == b"L" and not header.startswith(_LONG_NAME)):
            raise _damaged(where, f"is damaged: byte {position} begins a member of unknown kind {kind!r}")
        if kind in b"Lxg":
            if length > _LONGEST_NAME:
                raise _damaged(where, f"is damaged: byte {position} says that a name takes {length} bytes")
            content = os.pread(fd, length, start)
            if kind == b"L":
                long_name = content.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            else:
                pax = _pax(content, position, where)
                if kind == b"x":
                    long_name = pax.get("path", long_name)
                    long_size = int(pax["size"]) if pax.get("size", "").isdecimal() else None
        else:
            if kind in _PLAIN:
                yield Member(long_name or _short_name(header), position, start, length)
            long_name, long_size = None, None
        position = start + -(-length // BLOCK) * BLOCK


def _check_sum(header: bytes, position: int, where: str) -> None:
    values = np.frombuffer(header, np.uint8)
    others = int(values.sum()) - int(values[148:156].sum()) + 8 * ord(" ")
    try:
        stated = int(header[148:156].replace(b"\0", b" ").split()[0], 8)
    except (ValueError, IndexError):
        stated = -1
    if stated != others:
        signed = others - 256 * int((values[np.r_[:148, 156:BLOCK]] >= 128).sum())  # what old Suns wrote
        if stated != signed:
            if position == 0:
                raise DataError(
                    f"{where}: is no tar file (its first header is none); give uncompressed .tar shards"
                )
            raise _damaged(where, f"is damaged: at byte {position} there is no valid header")


def _number(field: bytes, position: int, where: str) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise _damaged(where, f"is damaged: the header at byte {position} states no size")
    return int(digits or b"0", 8)


def _short_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "backslashreplace")


def _pax(content: bytes, position: int, where: str) -> dict[str, str]:
    found = {}
    while content.strip(b"\0"):
        length, _, _ = content.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        record = content[len(length) + 1 : size]
        if not record.endswith(b"\n") or b"=" not in record:
            raise _damaged(where, f"is damaged: the extended header at byte {position} cannot be read")
        key, _, value = record[:-1].partition(b"=")
        found[key.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
        content = content[size:]
    return found


def _check_end(fd: int, position: int, where: str) -> None:
    """Nothing may follow the end mark, where every reader would leave it out in silence."""
    while chunk := os.pread(fd, _CHUNK, position):
        if chunk.count(0) != len(chunk):
            raise _damaged(where, f"is damaged: it goes on after the end mark at byte {position}")
        position += len(chunk)


def _damaged(where: str, what: str) -> DataError:
    return DataError(
        f"{where}: {what}; copy it again, or see what is readable with `facedistill data verify`"
    )
