"""MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md): what face sets use of it, with bounds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

_DEEPEST = 8
_SCALARS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"), 0xD9: ("text", ">B"), 0xDA: ("text", ">H"),
    0xDB: ("text", ">I"), 0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip


def unpack(data: bytes) -> Any:
    """One object that fills `data`: None, bool, int, float, bytes (texts too), list, dict.

    >>> unpack(pack_list([pack_bytes(b"abc"), pack_number(300)]))
    [b'abc', 300]

    Raises:
        ValueError: If it is damaged, nested deeper than eight, or of another kind.
    """
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes after its end")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data) or depth > _DEEPEST:
        raise ValueError("is cut short or nested too deeply")
    kind, at = data[at], at + 1
    if kind < 0x80 or kind >= 0xE0:
        return (kind if kind < 0x80 else kind - 256), at
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if kind in _SCALARS:
        number, at = _number(data, at, _SCALARS[kind])
        return number, at
    if kind < 0x90:
        return _container(data, at, kind & 15, depth, is_map=True)
    if kind < 0xA0:
        return _container(data, at, kind & 15, depth, is_map=False)
    if kind < 0xC0:
        return _taken(data, at, kind & 31)
    if kind not in _LENGTHS:
        raise ValueError(f"has an object of kind {kind:#x}")
    what, form = _LENGTHS[kind]
    count, at = _number(data, at, form)
    if what in ("bytes", "text"):
        return _taken(data, at, int(count))
    return _container(data, at, int(count), depth, is_map=what == "map")


def _number(data: bytes, at: int, form: str) -> tuple[Any, int]:
    size = struct.calcsize(form)
    if at + size > len(data):
        raise ValueError("is cut short")
    return struct.unpack_from(form, data, at)[0], at + size


def _taken(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise ValueError("is cut short")
    return data[at : at + size], at + size


def _container(data: bytes, at: int, count: int, depth: int, *, is_map: bool) -> tuple[Any, int]:
    number = 2 * count if is_map else count
    if number > len(data) - at:
        raise ValueError("is cut short")
    found = []
    for _ in range(number):
        value, at = _value(data, at, depth + 1)
        found.append(value)
    if not is_map:
        return found, at
    if not all(isinstance(key, bytes | int) for key in found[::2]):
        raise ValueError("has keys that are no texts")
    return dict(zip(found[::2], found[1::2], strict=True)), at


def pack_bytes(value: bytes) -> bytes:
    """`value` as MessagePack."""
    return struct.pack(">BI", 0xC6, len(value)) + value


def pack_number(value: int) -> bytes:
    """A whole number from 0 below 2^64 as MessagePack."""
    return struct.pack(">B", value) if value < 128 else struct.pack(">BQ", 0xCF, value)


def pack_list(packed: Sequence[bytes]) -> bytes:
    """A list of packed objects as MessagePack."""
    return struct.pack(">BI", 0xDD, len(packed)) + b"".join(packed)
