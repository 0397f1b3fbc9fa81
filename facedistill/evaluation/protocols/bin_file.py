"""insightface's verification sets: one pickle of encoded images and of same-or-not flags."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from facedistill.assets.pickle.verification_set import read_bin
from facedistill.errors import DataError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import EncodedImages

NUM_FOLDS = 10
_BETWEEN_BYTES = 2**16  # most that a pickle writes between two new images: opcodes, frames, a repeated image


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
        DataError: If the file cannot be read, is cut short, holds anything but bytes and booleans, or only one kind of
            pair; nothing that it names is ever imported or called.
    """
    path = Path(path)
    images, same = read_bin(path)
    if len(images) != 2 * len(same) or len(same) < NUM_FOLDS:
        raise DataError(
            f"{path}: holds {len(images)} images for {len(same)} pairs; "
            f"two a pair and at least {NUM_FOLDS} pairs are needed"
        )
    if len(set(same)) < 2:
        raise DataError(
            f"{path}: all {len(same)} pairs are {'genuine' if same[0] else 'impostor'}; a verification set needs both kinds"
        )
    place: dict[bytes, int] = {}
    distinct: list[bytes] = []
    index = []
    for image in images:
        if image not in place:  # Python keeps the hash of an image that is named again
            place[image] = len(distinct)
            distinct.append(image)
        index.append(place[image])
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
