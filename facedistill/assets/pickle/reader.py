"""Reads an untrusted pickle (torch's zip or older format, or a plain pickle) without running code that it names.

The result has tensors, numpy arrays and plain containers, and for every other class an `Inert` record of its name, its
arguments and its state. Nothing that the file names is imported or called, and no source code in it is run.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from facedistill.assets.pickle.machine import Inert, MalformedError, Named, run
from facedistill.assets.pickle.values import Rebuilder, Storage
from facedistill.errors import AssetError, os_errors_as

__all__ = ["Inert", "Named", "module_tensors", "read_inert", "read_inert_bytes"]

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
    struct.error, zipfile.BadZipFile,
)  # fmt: skip


class _AnotherFileError(Exception):
    """The file is something else; the message continues "it is …"."""


def read_inert(path: Path) -> Any:
    """Reads a file's object.

    Args:
        path: A file of `torch.save` (either format), or a plain pickle; tensors in it may be of either format.

    Returns:
        Dictionaries (an OrderedDict too), lists, tuples, sets, scalars, tensors on the CPU, numpy arrays, `Named` for
        a class or function, `Inert` for an instance of any class that is none of these.

    Raises:
        AssetError: If the file cannot be read, is damaged or no pickle.
    """
    readable = os_errors_as(AssetError, f"{path} cannot be read", "give a readable file")
    with readable, _in_sentences(path.name), path.open("rb") as stream:
        return _read(stream, path.stat().st_size)


def read_inert_bytes(content: bytes, name: str) -> Any:
    """Reads the object of a pickle in memory, as `read_inert` does.

    Args:
        content: The pickle.
        name: What to call it in a message.

    Raises:
        AssetError: If it is damaged or no pickle.
    """
    with _in_sentences(name):
        return _read(io.BytesIO(content), len(content))


@contextmanager
def _in_sentences(name: str) -> Iterator[None]:
    try:
        yield
    except _AnotherFileError as error:
        raise AssetError(f"{name} is {error}") from error
    except MalformedError as error:
        raise AssetError(
            f"{name} cannot be read as data: it has {error}; fetch it again, or save it again"
        ) from error
    except _DAMAGED as error:
        detail = " ".join(str(error).split())[:100]
        raise AssetError(
            f"{name} is truncated or no pickle ({type(error).__name__}: {detail}); fetch it again"
        ) from error


def module_tensors(
    module: Any, attributes: Callable[[Any], Mapping[str, Any]] = lambda module: module.attributes
) -> dict[str, Tensor]:
    """The parameters and buffers of a pickled `torch.nn.Module`, by their names in its state dict.

    Includes buffers that are not persistent, because a pickle contains those too.

    Args:
        module: The `Inert` of a module.
        attributes: Returns a module's attributes; by default those of its state.

    Raises:
        AssetError: If it is no module, or its modules contain one another.
    """
    found: dict[str, Tensor] = {}
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, part = waiting.pop()
        held = attributes(part) if isinstance(part, Inert) else {}
        children = held.get("_modules")
        if not isinstance(children, dict) or seen > 100_000 or len(prefix) > 1000:
            raise AssetError(
                f"{part!r:.80} at {prefix or 'the top'!r} is no module; give the network's own file"
            )
        seen += 1
        for group in ("_parameters", "_buffers"):
            tensors = held.get(group) or {}
            found |= {
                f"{prefix}{name}": tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)
            }
        waiting += [(f"{prefix}{name}.", child) for name, child in children.items() if child is not None]
    return found


def _read(stream: IO[bytes], size: int) -> Any:
    start = stream.read(512)
    stream.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(stream, size)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise _AnotherFileError("a web page and no pickle; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise _AnotherFileError("a Git LFS pointer and no pickle; run `git lfs pull` where it lies")
    rebuilder = _rebuilder(size)
    first = run(stream, rebuilder.call, rebuilder.build, _no_persistent)
    return _read_older(stream, rebuilder) if type(first) is int and first == _TORCH_MAGIC else first


def _rebuilder(size: int) -> Rebuilder:
    def nested(content: Any) -> Any:
        return _read(io.BytesIO(content), len(content))

    return Rebuilder(size, nested)


def _no_persistent(name: Any) -> Any:
    raise MalformedError("a persistent id outside a torch file")


def _read_zip(stream: IO[bytes], size: int) -> Any:
    """torch's format since 1.6: `data.pkl`, and one member `data/<key>` per storage, none of them compressed."""
    with zipfile.ZipFile(stream) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise MalformedError("no single data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise MalformedError("compressed members")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise MalformedError("big-endian storages")
        rebuilder = _rebuilder(size)
        storages: dict[str, Storage] = {}

        def persistent(said: Any) -> Storage:
            _, kind, name, _, count = said
            if name not in storages:
                storages[name] = rebuilder.storage(kind, count)
                _fill(storages[name].content, archive.read(f"{folder}data/{name}"))
            return storages[name]

        return run(io.BytesIO(archive.read(pickles[0])), rebuilder.call, rebuilder.build, persistent)


def _read_older(stream: IO[bytes], rebuilder: Rebuilder) -> Any:
    """torch's format before 1.6, behind its magic number: version, system, object, keys, then each storage's bytes."""

    def plain() -> Any:
        return run(stream, rebuilder.call, rebuilder.build, _no_persistent)

    version, system = plain(), plain()
    if version != 1001 or not system["little_endian"]:
        raise MalformedError("another version or byte order of torch")
    storages: dict[str, Storage] = {}

    def persistent(said: Any) -> Any:
        if said[0] == "module":  # a container's class, with its source
            return said[1]
        _, kind, name, _, count, *view = said
        if name not in storages:
            storages[name] = rebuilder.storage(kind, count)
        whole = storages[name]
        if not view or view[0] is None:
            return whole
        _, offset, length = view[0]
        width = whole.dtype.itemsize
        return Storage(whole.content.narrow(0, offset * width, length * width), whole.dtype)

    result = run(stream, rebuilder.call, rebuilder.build, persistent)
    for name in plain():
        storage = storages[name]
        stream.seek(8, os.SEEK_CUR)  # the number of elements, once more
        _fill(storage.content, stream.read(len(storage.content)))
    return result


def _fill(content: Tensor, raw: bytes) -> None:
    if len(raw) != len(content):
        raise MalformedError(f"a storage of {len(raw)} bytes instead of {len(content)}")
    content.numpy()[:] = np.frombuffer(raw, np.uint8)
