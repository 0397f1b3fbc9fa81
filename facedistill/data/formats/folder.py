"""Images in folders, one folder per identity."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facedistill.data.formats.base import Format, Items, Truncated
from facedistill.data.formats.face_set import FaceSet, image_ending
from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.errors import DataError, reason

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})
_NOT_READ = frozenset({".gif", ".tif", ".tiff", ".jp2", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".tga"})


class Folder(Format):
    """A folder of images per identity, or one folder of images without labels."""

    key, config, title = "folder", "folder", "folder of images"
    example = "a folder of one folder per identity"
    in_folder = SUFFIXES
    in_subfolders = True
    reads_damaged = True

    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """See `FolderFaces`."""
        return FolderFaces(path, truncated=truncated)

    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """Writes image n as `000000n.jpg` (or its other ending) into the folder of its identity."""
        for name in names:
            (target / name).mkdir(parents=True)
        target.mkdir(exist_ok=True)
        for number, (image, label) in enumerate(items):
            folder = target if label is None else target / names[label]
            (folder / f"{number:09d}.{image_ending(image, number)}").write_bytes(image)

    def names_for(self, identities: Sequence[str]) -> list[str]:
        """The names; numbers get leading zeros, so that folders sort as numbers do.

        Raises:
            DataError: If a name cannot be that of a folder.
        """
        if all(name.isdecimal() for name in identities):
            digits = max((len(name) for name in identities), default=0)
            return [name.zfill(digits) for name in identities]
        for name in identities:
            if not name or "/" in name or "\0" in name or name.startswith(".") or len(name.encode()) > 255:
                raise DataError(
                    f"identity {name!r} cannot be the name of a folder; convert to shards or parquet"
                )
        return list(identities)


class FolderFaces:
    """Images below one folder: a folder per identity, or all in one and unlabeled; see `FaceSet`.

    Identities and the images of each are sorted by name; an identity's folder may hold folders of its own.
    Files and folders whose names begin with a dot, and files that are no images by their ending, are ignored; images
    of types that are not read, such as GIF, are counted on standard error.

    Args:
        path: The folder.
        truncated: "refuse" images of zero bytes; "drop" leaves them out and says so on standard error.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`. An identity's name is that of its folder.
        damage: With "drop", a sentence for each image of zero bytes; else empty.

    Raises:
        DataError: In one sentence, if there is no image, an image of zero bytes, only one identity, or images
            both next to and inside the identities' folders.
    """

    def __init__(self, path: str | Path, *, truncated: Truncated = "refuse") -> None:
        self.path = path = Path(path)
        if not path.is_dir():
            raise DataError(f"{path}: is not a folder; give the folder that holds one folder per identity")
        self._names, sizes, not_read = _images_below(path)
        if not self._names:
            raise DataError(
                f"{path}: holds no images ({', '.join(sorted(SUFFIXES))}); give a folder of images"
            )
        if not_read:
            kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(not_read.items()))
            print(
                f"{path}: left out images of types that are not read: {kinds}; convert them to PNG",
                file=sys.stderr,
            )
        self.damage: list[str] = []
        if not sizes.all():
            self._names, sizes = self._without_empty(sizes, drop=truncated == "drop")
        owners = [name.split("/", 1)[0] if "/" in name else None for name in self._names]
        num_flat = owners.count(None)
        self.labels: np.ndarray | None = None
        self.identities: list[str] = []
        if num_flat < len(owners):
            self.identities = sorted({owner for owner in owners if owner is not None})
            _refuse_mixture(path, num_flat, len(owners) - num_flat, self.identities)
            place = {name: label for label, name in enumerate(self.identities)}
            self.labels = np.array([place[owner] for owner in owners if owner is not None], dtype=np.int64)
        self._root = str(path)
        self.fingerprint = fingerprint_of(sizes, self.labels, self.identities, self.encoded)

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._names)

    def encoded(self, index: int) -> bytes:
        """The file of one image.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            with open(f"{self._root}/{self._names[index]}", "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise DataError(f"{self.where(index)} cannot be read ({reason(error)})") from error

    def where(self, index: int) -> str:
        """The path of one image."""
        return f"{self._root}/{self._names[index]}"

    def _without_empty(self, sizes: np.ndarray, *, drop: bool) -> tuple[list[str], np.ndarray]:
        empty = [name for name, size in zip(self._names, sizes, strict=True) if not size]
        if not drop or len(empty) == len(sizes):
            raise DataError(
                f"{self.path}: {len(empty)} of {len(sizes)} images have zero bytes, the first {empty[0]}; "
                "replace or remove them"
            )
        self.damage = [f"{self.path}/{name} has zero bytes; replace or remove it" for name in empty]
        for sentence in self.damage:
            print(f"left out: {sentence}", file=sys.stderr)
        return [name for name, size in zip(self._names, sizes, strict=True) if size], sizes[sizes > 0]


def _images_below(root: Path) -> tuple[list[str], np.ndarray, Counter[str]]:
    """(N,) paths below the root, the identities' folders in order and each one's images in order; (N,) sizes.

    Also the endings of images that are not read, with their number.
    """
    not_read: Counter[str] = Counter()
    found: list[tuple[list[str], str, int]] = []
    pending = [""]
    try:
        while pending:
            below = pending.pop()
            with os.scandir(root / below) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = f"{below}{entry.name}"
                    if entry.is_dir():
                        pending.append(f"{name}/")
                    elif (ending := os.path.splitext(entry.name)[1].lower()) in _NOT_READ:
                        not_read[ending] += 1
                    elif ending in SUFFIXES:
                        found.append((name.split("/"), name, entry.stat().st_size))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({reason(error)})") from error
    found.sort()
    return [name for _, name, _ in found], np.array([size for *_, size in found], dtype=np.int64), not_read


def _refuse_mixture(path: Path, num_flat: int, num_nested: int, identities: list[str]) -> None:
    if num_flat:
        raise DataError(
            f"{path}: holds {num_flat} images itself and {num_nested} in {len(identities)} folders; move the "
            "former into folders of their identities, or give one kind alone"
        )
    if len(identities) == 1:
        raise DataError(
            f"{path}: holds one identity only ({identities[0]}, {num_nested} images), and labels need two; give "
            f"the folder of several identities, or {path}/{identities[0]} for an unlabeled set"
        )
