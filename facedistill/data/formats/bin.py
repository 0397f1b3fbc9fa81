"""The images of an insightface `.bin` verification set, as faces to search: its pickle is read, never run."""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np

from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.errors import DataError

_BEGINNINGS = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n")


class BinFaces:
    """The distinct JPEG and PNG files among the constants of a pickle, in order, unlabelled; see `FaceSet`.

    The opcodes are walked one by one and nothing is built from them, so that no file can make code run. Python
    2 strings, and bytes that Python 3 wrote for Python 2, are Latin-1 texts in the file.

    Raises:
        DataError: If the file cannot be read, is no pickle or cut short, or holds no image.
    """

    labels: np.ndarray | None = None

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identities: list[str] = []
        try:
            constants = [argument for _, argument, _ in pickletools.genops(self.path.read_bytes())]
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # a broken pickle raises whatever it likes
            raise DataError(f"{path}: is no whole .bin verification set ({error}); copy it again") from error
        images = [data for data in map(_as_bytes, constants) if data.startswith(_BEGINNINGS)]
        self._images = list(dict.fromkeys(images))
        if not self._images:
            raise DataError(f"{path}: holds no JPEG or PNG image; give an insightface .bin verification set")
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


def _as_bytes(argument: object) -> bytes:
    if isinstance(argument, str):
        try:
            return argument.encode("latin-1")
        except UnicodeEncodeError:
            return b""
    return bytes(argument) if isinstance(argument, bytes | bytearray) else b""
