"""Rebuilds the tensors, arrays and plain containers of a pickle with functions of this module.

Every other name becomes an `Inert` record. Sizes are compared with the size of the file before memory is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facedistill.assets.pickle.machine import Inert, MalformedError, Named, key

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocols up to 2 call them
_LARGEST_EXPANSION = 2**26
_EXPANSION, _ALWAYS = 8, 64 << 20  # bytes that calls may make: 8 for each of the file, and 64 MiB


@dataclass(eq=False)
class Storage:
    """Bytes shared by tensors."""

    content: Tensor  # uint8, one dimension
    dtype: torch.dtype


@dataclass(eq=False)
class _ArrayType:
    """A numpy dtype; its byte order comes with its state."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[<>|=]?[biufc]\d{1,2}", self.code):
            raise MalformedError(f"arrays of {self.code!r}")
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass
class Rebuilder:
    """Replaces the calls of one file.

    Attributes:
        bytes_left: Bytes left for storages: at most the size of the file.
        produced: Bytes produced by calls so far; repeated calls on one value can produce many bytes from a small file.
        from_bytes: Reads a torch file that the pickle has as bytes, and returns its storage.
    """

    bytes_left: int
    from_bytes: Callable[[bytes], Any]
    produced: int = field(default=0, init=False)
    _known: dict[str, Callable[..., Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._most = _EXPANSION * self.bytes_left + _ALWAYS
        self._known = {
            "collections.OrderedDict": _dict,
            "builtins.set": _set,
            "builtins.frozenset": lambda items=(): frozenset(map(key, items)),
            "builtins.bytearray": lambda *args: bytearray(_encoded(*args)),
            "builtins.bytes": lambda: b"",
            "copyreg._reconstructor": lambda kind, *_: Inert(kind),
            "builtins.complex": complex,
            "_codecs.encode": _encoded,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": _tensor,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_tensor_v3": _typed_tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": lambda what, kind, args, state: self.call(what, args, {}),
            "torch.storage._load_from_bytes": self.from_bytes,
            "numpy.dtype": lambda code, *_: _ArrayType(str(code)),
        }
        for core in ("numpy.core", "numpy._core"):
            self._known |= {
                f"{core}.multiarray._reconstruct": lambda *_: np.empty(0),
                f"{core}.multiarray.scalar": _scalar,
                f"{core}.numeric._frombuffer": _array,
            }

    def call(self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The representation of `what(*args, **kwargs)`."""
        name = f"{_MODULES.get(what.module, what.module)}.{what.name}" if isinstance(what, Named) else ""
        known = None if kwargs else self._known.get(name)
        return Inert(what, args, kwargs) if known is None else self._counted(known(*args))

    def _counted(self, value: Any) -> Any:
        """`value`, unless all values together are larger than the file can justify."""
        self.produced += _size(value)
        if self.produced > self._most:
            raise MalformedError(
                f"values of more than {self._most >> 20} MiB in a file of a fraction of that"
            )
        return value

    def build(self, target: Any, state: Any) -> None:
        """Sets the state of an `Inert` or an array; the state of tensors and dictionaries is not data and is ignored."""
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, np.ndarray):
            _, shape, kind, fortran, raw = state
            raw = raw.encode("latin1") if isinstance(raw, str) else raw
            if not isinstance(raw, bytes | bytearray):
                raise MalformedError("an array of objects")
            target.__setstate__((1, _shape(shape), kind.dtype(), bool(fortran), bytes(raw)))  # type: ignore[arg-type]
            self._counted(target)
        elif isinstance(target, _ArrayType):
            target.order = state[1] if state[1] in ("<", ">") else "="

    def storage(self, kind: Any, count: int) -> Storage:
        """An empty storage of `count` elements, which the reader fills."""
        name = kind.name if isinstance(kind, Named) else str(kind)
        if name not in _DTYPES:
            raise MalformedError(f"a storage of {name}")
        size = count * _DTYPES[name].itemsize
        if not 0 <= size <= self.bytes_left:
            raise MalformedError(f"a storage of {size} bytes, more than the file has")
        self.bytes_left -= size
        return Storage(torch.empty(size, dtype=torch.uint8), _DTYPES[name])


def _size(value: Any) -> int:
    """Approximate size of a rebuilt value, bytes."""
    if isinstance(value, Storage):
        return len(value.content)
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes
    if isinstance(value, bytes | bytearray):
        return len(value)
    return 64 * len(value) if isinstance(value, dict | set | frozenset | tuple) else 0


def _dict(items: Any = ()) -> dict[Any, Any]:
    pairs = list(items.items() if isinstance(items, dict) else items)
    return {key(name): value for name, value in pairs}


def _set(items: Any = ()) -> set[Any]:
    return set(map(key, items))


def _first(value: Any, *_: Any) -> Any:
    return value


def _encoded(text: Any = b"", *_: Any) -> bytes:
    """bytes, as protocol 2 writes them: `_codecs.encode(text, "latin1")`."""
    return text.encode("latin1") if isinstance(text, str) else bytes(memoryview(text))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise MalformedError("a tensor without a storage")
    flat = storage.content.view(storage.dtype)
    shape = _shape(size)
    if prod(shape) > max(len(flat), _LARGEST_EXPANSION):
        raise MalformedError(f"a tensor of {prod(shape)} elements on {len(flat)}")
    # torch refuses what lies outside the storage.
    return flat.as_strided(shape, tuple(stride), flat.storage_offset() + offset)


def _typed_tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    kind = getattr(torch, others[2].name, None) if isinstance(others[2], Named) else None
    if not isinstance(kind, torch.dtype) or not isinstance(storage, Storage):
        raise MalformedError("a tensor of unknown type")
    return _tensor(Storage(storage.content, kind), offset, size, stride)


def _shape(size: Any) -> tuple[int, ...]:
    shape = tuple(size)
    if not all(isinstance(length, int) and 0 <= length < 2**40 for length in shape) or len(shape) > 16:
        raise MalformedError(f"the shape {shape!r:.60}")
    return shape


def _array(raw: Any, kind: Any, shape: Any, order: str = "C") -> np.ndarray:
    flat = np.frombuffer(bytes(memoryview(raw)), kind.dtype())
    return flat.reshape(_shape(shape), order="F" if order == "F" else "C").copy()


def _scalar(kind: Any, raw: Any = b"") -> Any:
    return np.frombuffer(_encoded(raw), kind.dtype())[0]
