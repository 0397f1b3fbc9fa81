"""MATLAB's .mat files, version 5 to 7: enough of them to read lists of names and of numbers.

Written for TinyFace's id files, because scipy is no dependency of the package. Reads cell arrays of text, text and
real numeric arrays, plain or compressed; runs nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from facedistill.errors import DataError

Array: TypeAlias = "np.ndarray | str | list[Any]"

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MOST_BYTES = 2**28


def read_mat(path: Path) -> dict[str, Array]:
    """The variables of a file: numeric arrays, text as `str`, cell arrays as flat lists in column order.

    Raises:
        DataError: If the file cannot be read, is of version 7.3 (HDF5), or holds something else.
    """
    try:
        data = path.read_bytes()
        if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
            raise ValueError("it has no version 5 header")
        order = "<" if data[126:128] == b"IM" else ">"
        variables = (
            _matrix(body, order) for kind, body in _elements(data[_HEADER:], order) if kind == _MATRIX
        )
        return {name: value for name, value in variables if value is not None}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); put it there") from error
    except (ValueError, KeyError, struct.error, zlib.error, RecursionError) as error:
        raise DataError(
            f"{path}: is not a readable MATLAB file ({error}); save it with version 7 or take it anew"
        ) from error


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each data element; compressed ones are opened."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # small element: size and type share four bytes, the content follows in the other four
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start, end = at + 8, at + 8 + size
            end += -size % 8 if kind != _COMPRESSED else 0
        if size > end - start or start + size > len(data):
            raise ValueError("it is cut short")
        body = data[start : start + size]
        if kind == _COMPRESSED:
            opener = zlib.decompressobj()
            opened = opener.decompress(body, _MOST_BYTES)
            if opener.unconsumed_tail:
                raise ValueError("it opens to more than 256 MiB")
            yield from _elements(opened, order)
        else:
            yield kind, body
        at = end


def _matrix(body: bytes, order: str) -> tuple[str, Array | None]:
    """Name and content of a matrix; the content is None for kinds that are not read."""
    if not body:
        return "", np.empty(0)
    parts = list(_elements(body, order))
    if len(parts) < 3:
        raise ValueError("a matrix has no flags, size and name")
    (flags, _) = struct.unpack_from(order + "II", parts[0][1])
    size = np.frombuffer(parts[1][1], order + "i4")
    name = parts[2][1].decode("latin1")
    content, kind = parts[3:], flags & 0xFF
    if kind == _CELL:
        return name, [_matrix(cell, order)[1] for _, cell in content]
    if kind == _CHAR and content:
        return name, _text(*content[0], order)
    if kind in _NUMERIC and content and not flags & _COMPLEX:
        values = np.frombuffer(content[0][1], order + _TYPES[content[0][0]])
        return name, values.reshape(size.tolist(), order="F")
    return name, None


def _text(kind: int, body: bytes, order: str) -> str:
    encoding = _TEXT[kind]
    return body.decode(
        encoding + ("" if encoding in ("latin1", "utf-8") else "-le" if order == "<" else "-be")
    )
