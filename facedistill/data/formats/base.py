"""What a format of stored faces declares: its names, what it recognizes, how it opens and how it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from facedistill.data.formats.face_set import FaceSet
from facedistill.system.discovery import public_subclasses

Truncated: TypeAlias = Literal["refuse", "drop"]
Items: TypeAlias = Iterable[tuple[bytes, int | None]]


class Format(ABC):
    """A way to store a face set. A public subclass in a module of `facedistill.data.formats` registers itself.

    Import libraries inside the methods: all formats are imported to recognize one.

    Attributes:
        key: Name in `facedistill data convert --to`.
        config: Name in `conf/data` and in `data.format`.
        title: Name in messages.
        example: What a user gives, for messages.
        suffixes: Endings of files that are a face set each.
        in_folder: Endings of files that make the folder they are in a face set.
        in_subfolders: Whether such files count at any depth.
        takes_patterns: Whether a pattern such as `train-*.tar` is a face set.
        takes_addresses: Whether it is read from an fsspec address such as `s3://bucket/faces`.
        reads_damaged: Whether `open` can read a damaged set up to the damage.
        keeps_names: Whether the names of identities are stored.
        size_px: Width and height that a written image must have; None for any.
    """

    key: str
    config: str
    title: str
    example: str
    suffixes: frozenset[str] = frozenset()
    in_folder: frozenset[str] = frozenset()
    in_subfolders: bool = False
    takes_patterns: bool = False
    takes_addresses: bool = False
    reads_damaged: bool = False
    keeps_names: bool = True
    size_px: int | None = None

    def owns_folder(self, root: Path) -> bool:
        """Whether a file in the folder says that it is of this format, whatever else the folder holds."""
        return False

    @abstractmethod
    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """Opens a set; "drop" reads a damaged one up to the damage, where the format can."""

    @abstractmethod
    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """Writes (image, label) pairs to a path that does not exist; `names` (K,) are those of the identities."""

    def names_for(self, identities: Sequence[str]) -> list[str]:
        """The names under which identities are stored.

        Raises:
            DataError: If one of them cannot be stored.
        """
        return list(identities)

    def changed_files(self, path: str | Path) -> Iterator[str]:
        """A message for each file whose checksum is not the recorded one."""
        return iter(())


@lru_cache
def all_formats() -> tuple[Format, ...]:
    """Every format of this package, in the order of their keys."""
    found = public_subclasses("facedistill.data.formats", Format)  # type: ignore[type-abstract]
    return tuple(sorted((kind() for kind in found.values()), key=lambda one: one.key))
