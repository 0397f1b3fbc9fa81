"""Reads the constants of a frozen TensorFlow graph (`.pb`), by name, without TensorFlow.

The file is protocol-buffer wire format: a key holds a field's number and how its value is stored (0 a varint, 1 and 5
eight and four bytes, 2 a length and bytes). Only these fields are read: GraphDef.node 1; NodeDef.name 1, op 2, attr 5
(a map: key 1, value 2); AttrValue.tensor 8; TensorProto.dtype 1, tensor_shape 2, tensor_content 4; dim 2, size 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.teachers.checkpoint import read_bytes

_FLOAT = 1
_FIXED = {1: 8, 5: 4}


def read_constants(path: Path) -> dict[str, Tensor]:
    """Every float32 constant with its bytes in `tensor_content`, by its node's name, in the file's order.

    Raises:
        AssetError: If the file cannot be read or is not such a graph.
    """
    try:
        content = memoryview(read_bytes(path))
        found = {}
        for number, node in _fields(content):
            if number == 1 and isinstance(node, memoryview):
                name, tensor = _constant(node)
                if tensor is not None:
                    found[name] = tensor
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise AssetError(
            f"{path.name} is truncated or not a frozen TensorFlow graph; fetch it again"
        ) from error
    return found


def _constant(node: memoryview) -> tuple[str, Tensor | None]:
    name, op, tensor = "", "", None
    for number, value in _fields(node):
        if number == 1:
            name = bytes(_as_bytes(value)).decode()
        elif number == 2:
            op = bytes(_as_bytes(value)).decode()
        elif number == 5:
            entry = dict(_fields(_as_bytes(value)))
            if bytes(_as_bytes(entry.get(1, memoryview(b"")))) == b"value":
                inside = dict(_fields(_as_bytes(entry[2])))
                tensor = _tensor(_as_bytes(inside[8])) if 8 in inside else None
    return name, tensor if op == "Const" else None


def _tensor(proto: memoryview) -> Tensor | None:
    parts = dict(_fields(proto))
    if parts.get(1) != _FLOAT or 4 not in parts or 2 not in parts:
        return None
    dims = [
        dict(_fields(_as_bytes(dim))).get(1, 0) for number, dim in _fields(_as_bytes(parts[2])) if number == 2
    ]
    shape = [dim for dim in dims if isinstance(dim, int)]
    raw = bytearray(_as_bytes(parts[4]))
    if len(raw) != 4 * math.prod(shape):
        raise ValueError("a tensor's length differs from its shape")
    return torch.frombuffer(raw, dtype=torch.float32).view(shape) if raw else torch.empty(shape)


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        length = _FIXED.get(kind)
        if kind == 2:
            length, at = _varint(content, at)
        if length is None or length > len(content) - at:
            raise ValueError("a field exceeds its message")
        yield key >> 3, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = content[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than ten bytes")


def _as_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number instead of bytes")
    return value
