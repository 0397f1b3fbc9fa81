"""Keys and places of the values of an LMDB file, read without its library.

The library maps the file and follows its page numbers unchecked, so that a damaged or hostile file ends the process.
Here every page is read and checked. The layout is that of LMDB 0.9 (`mdb.c`) on 64-bit little-endian machines.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from facedistill.errors import DataError

_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_DATABASE = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
_PAGE = struct.Struct(
    "<QHHHH"
)  # number, pad, flags, lower, upper (or, together, the number of overflow pages)
_NODE = struct.Struct("<HHHH")  # low and high half of a size (or page number), flags, size of the key
_MAGIC, _VERSION, _EMPTY = 0xBEEFC0DE, 1, (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW, _IS_META = 1, 2, 4, 8
_BIG, _SUB_DATABASE, _DUPLICATES = 1, 2, 4
_DEEPEST = 32


class Entry(NamedTuple):
    """A key, and the byte and the size of its value."""

    key: bytes
    start: int
    size: int


def entries(fd: int, size: int, where: str) -> Iterator[Entry]:
    """Yields the entries of the main database of an open file of `size` bytes, in the order of their keys.

    Raises:
        DataError: If it is no LMDB file, is cut short or damaged, or holds databases inside the database.
    """
    page_size, root, pages = _newest_meta(fd, where)
    if root == _EMPTY:
        return
    waiting, seen = [(root, 0)], 0
    while waiting:
        number, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > pages:
            raise _damaged(where, f"page {number} is reached twice")
        page = _read_page(fd, size, number, page_size, where)
        _, _, flags, lower, upper = _PAGE.unpack_from(page)
        if not _PAGE.size <= lower <= upper <= page_size or flags not in (_BRANCH, _LEAF):
            raise _damaged(where, f"page {number} has a wrong header")
        places = struct.unpack_from(f"<{(lower - _PAGE.size) // 2}H", page, _PAGE.size)
        if flags == _BRANCH:
            waiting += [(_child(page, place, number, where), depth + 1) for place in reversed(places)]
        else:
            for place in places:
                yield _entry(fd, size, page, place, number, where)


def _newest_meta(fd: int, where: str) -> tuple[int, int, int]:
    """Page size, root page and number of pages by the newer of the two meta pages."""
    found = []
    start = 0
    for _ in range(2):
        page = os.pread(fd, 152, start)
        if len(page) < 152:
            break
        flags = _PAGE.unpack_from(page)[2]
        magic, version, _, _ = _META.unpack_from(page, 16)
        if flags & _IS_META and magic == _MAGIC and version == _VERSION:
            page_size = _DATABASE.unpack_from(page, 40)[0]
            _, database_flags, *_, root = _DATABASE.unpack_from(page, 88)
            last, transaction = struct.unpack_from("<QQ", page, 136)
            found.append((transaction, page_size, root, last + 1, database_flags))
            start = page_size
        else:
            start += 4096
    if not found:
        raise DataError(f"{where}: is no LMDB database of a 64-bit machine; give its data.mdb or .lmdb file")
    _, page_size, root, pages, flags = max(found)
    if page_size not in (1 << bits for bits in range(9, 17)):
        raise _damaged(where, f"its pages have {page_size} bytes")
    if flags & _DUPLICATES:
        raise DataError(f"{where}: holds several values per key; write it again with one sample per key")
    return page_size, root, pages


def _read_page(fd: int, size: int, number: int, page_size: int, where: str) -> bytes:
    if (number + 1) * page_size > size:
        raise DataError(
            f"{where}: is cut short: page {number} ends at byte {(number + 1) * page_size}, and the file at {size}; copy it "
            "again, or see what is readable with `facedistill data verify`"
        )
    page = os.pread(fd, page_size, number * page_size)
    if len(page) < page_size or _PAGE.unpack_from(page)[0] != number:
        raise _damaged(where, f"page {number} is another page")
    return page


def _child(page: bytes, place: int, number: int, where: str) -> int:
    low, high, top, _ = _node(page, place, number, where)
    return low | high << 16 | top << 32


def _entry(fd: int, size: int, page: bytes, place: int, number: int, where: str) -> Entry:
    low, high, flags, key_size = _node(page, place, number, where)
    value_size = low | high << 16
    start = place + _NODE.size + key_size
    key = page[place + _NODE.size : start]
    if flags & (_SUB_DATABASE | _DUPLICATES):
        raise DataError(f"{where}: holds databases inside the database; give a file of one sample per key")
    inside = 8 if flags & _BIG else value_size
    if start + inside > len(page):
        raise _damaged(where, f"page {number} has a value beyond its end")
    if not flags & _BIG:
        return Entry(key, number * len(page) + start, value_size)
    (first,) = struct.unpack_from("<Q", page, start)
    head = _PAGE.size + first * len(page)
    if head + value_size > size:
        raise DataError(
            f"{where}: is cut short: a value ends at byte {head + value_size}, and the file at {size}; copy it again, or see "
            "what is readable with `facedistill data verify`"
        )
    stated, _, kind, pages_low, pages_high = _PAGE.unpack(os.pread(fd, _PAGE.size, first * len(page)))
    if (
        stated != first
        or kind != _OVERFLOW
        or (pages_low | pages_high << 16) * len(page) < _PAGE.size + value_size
    ):
        raise _damaged(where, f"page {first} holds no value")
    return Entry(key, head, value_size)


def _node(page: bytes, place: int, number: int, where: str) -> tuple[int, int, int, int]:
    if not _PAGE.size <= place <= len(page) - _NODE.size:
        raise _damaged(where, f"page {number} has an entry beyond its end")
    low, high, flags, key_size = _NODE.unpack_from(page, place)
    if place + _NODE.size + key_size > len(page):
        raise _damaged(where, f"page {number} has a key beyond its end")
    return low, high, flags, key_size


def _damaged(where: str, what: str) -> DataError:
    return DataError(
        f"{where}: is damaged: {what}; copy it again, or see what is readable with `facedistill data verify`"
    )
