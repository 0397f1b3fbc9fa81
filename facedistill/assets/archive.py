"""Extracts named members of an archive.

An archive is untrusted. Members are read by their exact names, up to a maximum size, and written under their base
names into an empty folder. The archive is never unpacked completely, imported or executed.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from facedistill.assets.card import AssetCard, Member
from facedistill.errors import AssetError

_CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, OSError,
)  # fmt: skip
_MOST_UNPACKED = 20  # times the size of a compressed archive; weights hardly shrink


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_archive(card: AssetCard, path: Path) -> None:
    """Compares the hash of a downloaded archive with the card's `archive_sha256`, if the card has one.

    Raises:
        AssetError: If it has another hash.
    """
    if card.archive_sha256 and (found := sha256_of(path)) != card.archive_sha256:
        raise AssetError(
            f"asset {card.name}: the archive {path.name} has sha256 {found}, the card demands "
            f"{card.archive_sha256}; it was altered or cut short, do not use it"
        )


def take_members(card: AssetCard, delivered: Path, folder: Path) -> dict[str, Path]:
    """Copies the card's members from a file or folder and verifies their hashes.

    Args:
        card: Names the members and their hashes.
        delivered: The single member itself, an archive that holds the members, or a folder of them.
        folder: An existing empty folder to write into.

    Returns:
        Base file name to path, in the card's order.

    Raises:
        AssetError: If a member is missing, too large, damaged, or has another sha256.
    """
    if not delivered.exists():
        raise AssetError(f"asset {card.name}: there is no file {delivered}")
    if not os.access(delivered, os.R_OK):
        raise AssetError(f"asset {card.name}: {delivered} cannot be read; change its permissions")
    with _opener(card, delivered) as find:
        return {member.name: _take(card, member, find(member), folder) for member in card.members}


class _Finder:
    """Opens a member of a file for reading; returns None if it is missing."""

    def __init__(self, delivered: Path, archive: zipfile.ZipFile | tarfile.TarFile | None) -> None:
        self.delivered, self.archive = delivered, archive

    def __call__(self, member: Member) -> IO[bytes] | None:
        if isinstance(self.archive, zipfile.ZipFile):
            listed = member.path in self.archive.namelist()
            return self.archive.open(member.path) if listed else None
        if isinstance(self.archive, tarfile.TarFile):
            found = [entry for entry in self.archive.getmembers() if entry.name == member.path]
            return self.archive.extractfile(found[-1]) if found and found[-1].isfile() else None
        if self.delivered.is_dir():
            for place in (self.delivered / member.path, self.delivered / member.name):
                if place.is_file():
                    return place.open("rb")
            return None
        return self.delivered.open("rb")


class _Bounded:
    """A stream for `tarfile` that fails where it would unpack more than `most` bytes: a small file can claim terabytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most, self.tell = stream, most, stream.tell

    def read(self, size: int) -> bytes:
        self._demand(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        self._demand(place)
        return self._stream.seek(place)

    def _demand(self, end: int) -> None:
        if end > self._most:
            raise tarfile.ReadError(f"unpacks to more than {self._most:,} bytes")


def _unpacked(path: Path) -> IO[bytes]:
    """A file for reading, decompressed if it is."""
    with path.open("rb") as file:
        start = file.read(2)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
    stream: IO[bytes] = openers.get(start, open)(path, "rb")
    return stream


@contextmanager
def _opener(card: AssetCard, delivered: Path) -> Iterator[_Finder]:
    try:
        if delivered.is_dir() or _is_member_itself(card, delivered):
            yield _Finder(delivered, None)
        elif zipfile.is_zipfile(delivered):
            with zipfile.ZipFile(delivered) as bundle:
                yield _Finder(delivered, bundle)
        else:
            most = _MOST_UNPACKED * delivered.stat().st_size + card.max_bytes
            with (
                _unpacked(delivered) as plain,
                tarfile.open(fileobj=_Bounded(plain, most), mode="r:") as bundle,  # type: ignore[call-overload]
            ):
                yield _Finder(delivered, bundle)
    except _DAMAGE as error:
        if getattr(error, "errno", None):  # of the disk; those of gzip and bz2 have no number
            raise
        raise AssetError(
            f"asset {card.name}: {delivered} is not a readable archive ({_what(error)}); "
            f"it may be cut short, fetch it again"
        ) from error


def _what(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {error}" if str(error).startswith("unpacks") else name


def _is_member_itself(card: AssetCard, delivered: Path) -> bool:
    """Whether the file is the single member itself: it has the member's suffix (a .pth is a zip too) or its hash."""
    if len(card.members) > 1:
        return False
    member = card.members[0]
    return delivered.suffix == Path(member.name).suffix or sha256_of(delivered) == member.sha256


def _take(card: AssetCard, member: Member, stream: IO[bytes] | None, folder: Path) -> Path:
    if stream is None:
        raise AssetError(f"asset {card.name}: the delivered file has no member {member.path}")
    target, digest, total = folder / member.name, hashlib.sha256(), 0
    with stream, target.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            total += len(chunk)
            if total > card.max_bytes:
                raise AssetError(
                    f"asset {card.name}: member {member.name} is larger than twice the card's size_mb "
                    f"({card.size_mb:g}); the file is not what the card describes"
                )
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != member.sha256:
        raise AssetError(
            f"asset {card.name}: member {member.name} has sha256 {digest.hexdigest()}, the card demands "
            f"{member.sha256}; it was altered or cut short, do not use it"
        )
    return target
