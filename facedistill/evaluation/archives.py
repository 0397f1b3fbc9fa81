"""Encoded images by name, in a folder or in a tar that is read in place."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from facedistill.errors import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
Place = TypeVar("Place")


class Archive(Protocol):
    """Encoded images by name; a name is a path below the archive's root, without suffix."""

    where: str

    def names(self) -> Sequence[str]:
        """All names, in the order in which reading is cheapest."""
        ...

    def read(self, name: str) -> bytes:
        """The encoded image."""
        ...


class FolderArchive:
    """A folder tree of image files.

    Raises:
        DataError: If there is no such folder, or it holds two images whose names differ in the suffix only.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = root = Path(root)
        self.where = str(root)
        if not root.is_dir():
            raise DataError(f"{root}: is not a folder; give the folder of aligned 112x112 faces")
        found = sorted(path for path in root.rglob("*") if _is_image(path.name))
        self._paths = _by_name(((p.relative_to(root).as_posix(), p) for p in found), self.where)

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        return list(self._paths)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return self._paths[name].read_bytes()

    def read_text(self, file_name: str) -> str | None:
        """A text file at the root (a pair list), or None."""
        path = self._root / file_name
        return path.read_text(encoding="utf-8") if path.is_file() else None


class TarArchive:
    """An uncompressed tar, read in place: its headers once, then each image by one positioned read.

    A single top folder that all images share is left out of the names. Links and devices are ignored.

    Raises:
        DataError: If the file is missing, compressed, cut short, or no tar at all.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.where = str(path)
        try:
            self._file = path.open("rb")
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                members = [member for member in tar if member.isfile()]
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except tarfile.TarError as error:
            raise DataError(
                f"{path}: is not an uncompressed tar ({error}); unpack it or use plain tar"
            ) from error
        end = path.stat().st_size
        if any(member.offset_data + member.size > end for member in members):
            raise DataError(f"{path}: is cut short; copy it again")
        images = [member for member in members if _is_image(member.name)]
        parts = [PurePosixPath(member.name).parts for member in images]
        tops = {part[0] for part in parts}
        below = 1 if len(tops) == 1 and all(len(part) > 1 for part in parts) else 0
        paths = ("/".join(part[below:]) for part in parts)
        self._places = _by_name(zip(paths, map(_place, images), strict=True), self.where)
        self._texts = {PurePosixPath(m.name).name: _place(m) for m in members if not _is_image(m.name)}

    def names(self) -> Sequence[str]:
        """All names, in the order of the file."""
        return list(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of one image."""
        offset, size = self._places[name]
        return os.pread(self._file.fileno(), size, offset)

    def read_text(self, file_name: str) -> str | None:
        """A text file in the tar by its base name (a pair list), or None."""
        if file_name not in self._texts:
            return None
        offset, size = self._texts[file_name]
        return os.pread(self._file.fileno(), size, offset).decode("utf-8")


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _SUFFIXES


def _place(member: tarfile.TarInfo) -> tuple[int, int]:
    return member.offset_data, member.size


def _by_name(found: Iterable[tuple[str, Place]], where: str) -> Mapping[str, Place]:
    places: dict[str, Place] = {}
    for path, place in found:
        name = without_suffix(path)
        if name in places:
            raise DataError(f"{where}: holds two images named {name}; keep one of them")
        places[name] = place
    return places


def without_suffix(path: str) -> str:
    """`a/b.jpg` -> `a/b`; other endings stay."""
    pure = PurePosixPath(path)
    return pure.with_suffix("").as_posix() if _is_image(path) else pure.as_posix()
