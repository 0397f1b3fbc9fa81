"""The images of an insightface `.bin` verification set, as faces to search."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facedistill.assets.pickle.verification_set import read_bin
from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.errors import DataError


class BinFaces:
    """The distinct images of a `.bin` file, in order and without labels; see `FaceSet`.

    Raises:
        DataError: If the file cannot be read, is no verification set, or holds no image; nothing in it is executed.
    """

    labels: np.ndarray | None = None

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identities: list[str] = []
        self._images = list(dict.fromkeys(read_bin(self.path)[0]))
        if not self._images:
            raise DataError(f"{path}: holds no image; give an insightface .bin verification set")
        sizes = np.array([len(image) for image in self._images])
        self.fingerprint = fingerprint_of(sizes, None, [], self.encoded)

    def __len__(self) -> int:
        """Number of distinct images."""
        return len(self._images)

    def encoded(self, index: int) -> bytes:
        """The file of one image."""
        return self._images[index]

    def where(self, index: int) -> str:
        """`lfw.bin, image 12`, counted without repetitions."""
        return f"{self.path}, image {index}"
