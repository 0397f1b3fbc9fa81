"""Encoded images by name, in a folder or in a tar that is not unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, TypeVar

from facedistill.errors import DataError, reason

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_BLOCK = 512
T = TypeVar("T")


class Archive(Protocol):
    """Encoded images by name: the path below the archive's root, without suffix."""

    where: str

    def names(self) -> Sequence[str]:
        """All names, in the order that is fastest to read."""
        ...

    def read(self, name: str) -> bytes:
        """The encoded image."""
        ...


class FolderArchive:
    """A folder tree of image files.

    Raises:
        DataError: If there is no such folder, or two images differ in the suffix only.
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
        """The bytes of one file.

        Raises:
            DataError: If it cannot be read.
        """
        return read_bytes(self._paths[name])

    def read_text(self, file_name: str) -> str | None:
        """A text file at the root (a pair list), or None."""
        path = self._root / file_name
        return read_list(path) if path.is_file() else None


class TarArchive:
    """An uncompressed tar: its headers are read once, then each image by one positioned read.

    A top folder that all images share is not part of the names. Links and devices are ignored.

    Raises:
        DataError: If the file is missing, compressed, truncated or not a tar.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.where = str(path)
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error
        try:
            self._images, self._texts = self._index(path)
        except BaseException:
            self._file.close()
            raise

    def names(self) -> Sequence[str]:
        """All names, in the order of the file."""
        return list(self._images)

    def read(self, name: str) -> bytes:
        """The bytes of one image."""
        offset, size = self._images[name]
        return os.pread(self._file.fileno(), size, offset)

    def read_text(self, file_name: str) -> str | None:
        """A text file in the tar by its base name (a pair list), or None."""
        if file_name not in self._texts:
            return None
        offset, size = self._texts[file_name]
        return _as_text(os.pread(self._file.fileno(), size, offset), f"{self.where}:{file_name}")

    def _index(self, path: Path) -> tuple[Mapping[str, tuple[int, int]], dict[str, tuple[int, int]]]:
        """Offset and size of the images by name, and of the other files by base name."""
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                members = list(_members(tar, path))
                _check_end(self._file, tar.offset, path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error
        except (tarfile.TarError, ValueError, OverflowError) as error:  # malicious sizes raise the latter two
            raise DataError(
                f"{path}: is not an uncompressed tar ({error}); unpack it or use plain tar"
            ) from error
        end = path.stat().st_size
        if any(member.offset_data + member.size > end for member in members):
            raise DataError(f"{path}: is truncated; copy it again")
        images = [member for member in members if _is_image(member.name)]
        parts = [PurePosixPath(member.name).parts for member in images]
        tops = {part[0] for part in parts}
        below = 1 if len(tops) == 1 and all(len(part) > 1 for part in parts) else 0
        paths = ("/".join(part[below:]) for part in parts)
        texts = {PurePosixPath(m.name).name: _extent(m) for m in members if not _is_image(m.name)}
        return _by_name(zip(paths, map(_extent, images), strict=True), self.where), texts


def read_list(path: Path) -> str:
    """The text of a pair list or a table of groups.

    Raises:
        DataError: If it cannot be read, or is not UTF-8 text.
    """
    return _as_text(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}); copy it again") from error


def _as_text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: is not UTF-8 text at byte {error.start}; save the list of pairs or groups as UTF-8"
        ) from error


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """Plain files. Headers that point backward or have impossible sizes raise DataError."""
    position = -1
    for member in tar:
        if member.size < 0 or member.offset <= position or member.issparse():
            raise DataError(
                f"{path}: is damaged or not a plain tar at byte {member.offset}; create or copy it again"
            )
        position = member.offset
        if member.isfile():
            yield member


def _check_end(file: BinaryIO, offset: int, path: Path) -> None:
    """Only zeros may follow the last member; `tarfile` stops at damage without an error."""
    file.seek(offset)
    rest = file.read(_BLOCK)
    if len(rest) < _BLOCK:
        raise DataError(
            f"{path}: is truncated: the zeros that end a tar are missing at byte {offset}; copy it again"
        )
    while rest:
        if rest.strip(b"\0"):
            raise DataError(f"{path}: is damaged: no member begins at byte {offset}; copy it again")
        offset += len(rest)
        rest = file.read(1 << 20)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _SUFFIXES


def _extent(member: tarfile.TarInfo) -> tuple[int, int]:
    return member.offset_data, member.size


def _by_name(found: Iterable[tuple[str, T]], where: str) -> Mapping[str, T]:
    images: dict[str, T] = {}
    for path, image in found:
        name = without_suffix(path)
        if name in images:
            raise DataError(f"{where}: holds two images named {name}; remove one of them")
        images[name] = image
    return images


def without_suffix(path: str) -> str:
    """`a/b.jpg` -> `a/b`; suffixes of other files stay."""
    pure = PurePosixPath(path)
    return pure.with_suffix("").as_posix() if _is_image(path) else pure.as_posix()
