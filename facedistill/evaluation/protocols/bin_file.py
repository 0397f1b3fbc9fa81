"""insightface's verification sets: one pickle of encoded images and of same-or-not flags.

A pickle can run any code when it is loaded. The reader here can build lists, tuples, bytes and booleans only.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from facedistill.errors import DataError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import EncodedImages

NUM_FOLDS = 10
_BETWEEN_BYTES = 2**16  # most that a pickle writes between two new images: opcodes, frames, a repeated image


class _PlainUnpickler(pickle.Unpickler):
    """Knows no class and no function but the one by which Python 3 writes bytes for Python 2."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"names {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("names an object outside the file")


class _ListArchive:
    """Encoded images in memory, named by their number."""

    def __init__(self, images: Sequence[bytes], where: str) -> None:
        self.where = where
        self._images = images

    def names(self) -> Sequence[str]:
        return [str(number) for number in range(len(self._images))]

    def read(self, name: str) -> bytes:
        return self._images[int(name)]


class _FileArchive:
    """Encoded images that stay in the file, named by their number; each is read when it is asked for."""

    def __init__(self, path: Path, places: Sequence[tuple[int, int]]) -> None:
        self.where = str(path)
        self._places = places
        self._file = path.open("rb")

    def names(self) -> Sequence[str]:
        return [str(number) for number in range(len(self._places))]

    def read(self, name: str) -> bytes:
        offset, size = self._places[int(name)]
        return os.pread(self._file.fileno(), size, offset)


def _in_place(path: Path, images: Sequence[bytes], distinct: Sequence[bytes]) -> _FileArchive | None:
    """The distinct images where they lie in the file, so that no set of images has to stay in memory; None where
    the pickle holds them encoded (Python 3 writing for Python 2)."""
    places: dict[bytes, tuple[int, int]] = {}
    at = 0
    with path.open("rb") as file:
        for image in images:
            if image in places:
                continue
            file.seek(at)
            window = file.read(len(image) + _BETWEEN_BYTES)
            found = window.find(image)
            if found < 0:
                return None
            places[image] = (at + found, len(image))
            at += found + len(image)
    return _FileArchive(path, [places[image] for image in distinct])


def load_bin(path: str | Path, name: str | None = None) -> PairsProtocol:
    """Reads a verification set: `(images, same)` with 2·P encoded images and P flags.

    Pair i is images 2i and 2i + 1; an image that occurs in several pairs is embedded once. As in
    insightface's own evaluation, the ten folds are runs of neighboring pairs.

    Args:
        path: The `.bin` file.
        name: The protocol's name; the file's own if None.

    Raises:
        DataError: If the file cannot be read, is cut short, or holds anything but bytes and booleans; nothing
            that it names is ever imported or called.
    """
    path = Path(path)
    images, same = _read_plain(path)
    if len(images) != 2 * len(same) or len(same) < NUM_FOLDS:
        raise DataError(
            f"{path}: holds {len(images)} images for {len(same)} pairs; "
            f"two a pair and at least {NUM_FOLDS} pairs are needed"
        )
    place: dict[bytes, int] = {}
    distinct: list[bytes] = []
    index = []
    for image in images:
        key = hashlib.sha256(image).digest()
        if key not in place:
            place[key] = len(distinct)
            distinct.append(image)
        index.append(place[key])
    archive = _in_place(path, images, distinct) or _ListArchive(distinct, str(path))
    runs = np.array_split(np.arange(len(same)), NUM_FOLDS)
    return PairsProtocol(
        name=name or path.stem,
        image_set=EncodedImages(archive, archive.names()),
        left=torch.tensor(index[0::2]),
        right=torch.tensor(index[1::2]),
        same=torch.tensor(same),
        fold=torch.tensor(np.concatenate([np.full(len(run), fold) for fold, run in enumerate(runs)])),
    )


def _read_plain(path: Path) -> tuple[list[bytes], list[bool]]:
    try:
        with path.open("rb") as file:
            _refuse_far_memo(file)
            content = _PlainUnpickler(file).load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a hostile or broken pickle raises whatever it likes
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path}: is not a plain insightface .bin of bytes and booleans ({reason}); nothing was executed"
        ) from error
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise DataError(f"{path}: must hold images and same-or-not flags, got {type(content).__name__}")
    images, same = content
    if not isinstance(images, list) or not all(type(image) is bytes for image in images):
        raise DataError(f"{path}: its images must be a list of encoded images (bytes)")
    if not isinstance(same, list) or not all(type(flag) in (bool, int) and flag in (0, 1) for flag in same):
        raise DataError(f"{path}: its same-or-not flags must be a list of booleans")
    return images, [bool(flag) for flag in same]


def _refuse_far_memo(file: BinaryIO) -> None:
    """Refuses numbers of parts that would make the standard reader clear gigabytes for a table of them."""
    for parts, (operation, argument, _) in enumerate(pickletools.genops(file), start=1):
        if operation.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= parts:
            raise pickle.UnpicklingError(f"numbers part {argument} of {parts}")
    file.seek(0)


def _latin1(text: str | bytes, encoding: str | bytes = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("encodes something else than bytes")
    return text.encode("latin1")
