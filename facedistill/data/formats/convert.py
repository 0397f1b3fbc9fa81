"""The same face set in another format."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.data.formats.face_set import FaceSet
from facedistill.data.formats.open import Format, open_faces
from facedistill.data.formats.parquet.writer import write_parquet
from facedistill.data.formats.recordio.reader import write_recordio
from facedistill.data.formats.shards.writer import image_ending, write_shards
from facedistill.data.formats.verify import problem_of
from facedistill.errors import DataError
from facedistill.system.files import new_target
from facedistill.system.progress import Counting

Items = Iterator[tuple[bytes, int | None]]


@dataclass(frozen=True)
class Converted:
    """What a conversion did: images written, images left out, whether the identities' names were lost."""

    written: int
    skipped: int
    names_lost: bool


def convert(source: str | Path, target: Path, to: Format, *, skip_damaged: bool = False) -> Converted:
    """Writes every image, bytes unchanged, with its identity to `target`, and reads all of it back.

    The target gets its name only when each image has been found again in it with the right identity. A folder
    comes sorted by identity; the other formats keep the order.

    Args:
        source: Any face set.
        target: Must not exist yet.
        to: Format to write.
        skip_damaged: Leave damaged images out, each named on standard error, instead of stopping at the first.

    Raises:
        DataError: If the source is damaged and `skip_damaged` false, the target exists, or writing fails.
    """
    with new_target(target) as stage:
        faces = open_faces(source, truncated="drop" if skip_damaged else "refuse")
        names = _names(faces.identities, to)
        stream = _Stream(faces, source, names, size_px=112 if to == "rec" else None, skip=skip_damaged)
        _WRITERS[to](stage, iter(stream), names)
        _compare(open_faces(stage), stream, target)
    skipped = stream.skipped + len(getattr(faces, "damage", []))
    return Converted(stream.written, skipped, to == "rec" and names != faces.identities)


class _Stream:
    """Images and labels of the source, and a checksum that does not depend on their order."""

    def __init__(
        self, faces: FaceSet, source: str | Path, names: Sequence[str], *, size_px: int | None, skip: bool
    ) -> None:
        self.faces, self.source, self.names, self.size_px, self.skip = faces, source, names, size_px, skip
        self.written = self.skipped = self.images = self.owned = 0

    def __iter__(self) -> Items:
        with Counting("converting", len(self.faces)) as counting:
            for index in range(len(self.faces)):
                counting.advance()
                problem = problem_of(self.faces, index, self.size_px)
                if problem is not None:
                    self._left_out(problem)
                    continue
                image = self.faces.encoded(index)
                label = None if self.faces.labels is None else int(self.faces.labels[index])
                self.images += _digest(image, "")
                self.owned += _digest(image, "" if label is None else self.names[label])
                self.written += 1
                yield image, label
        if not self.written:
            raise DataError(f"{self.source}: every image is damaged; there is nothing to convert")

    def _left_out(self, problem: str) -> None:
        if not self.skip:
            raise DataError(f"{problem}, or leave it out with --skip-damaged")
        self.skipped += 1
        print(f"left out: {problem}", file=sys.stderr)


def _digest(image: bytes, name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + image).digest())


def _compare(written: FaceSet, stream: _Stream, target: Path) -> None:
    """Holds what was written to what was read."""
    images = 0
    with Counting("reading back", len(written)) as counting:
        for index in range(len(written)):
            name = "" if written.labels is None else written.identities[int(written.labels[index])]
            images += _digest(written.encoded(index), name)
            counting.advance()
    expected = stream.images if written.labels is None else stream.owned
    if len(written) != stream.written or images != expected:
        raise DataError(
            f"{target}: {len(written)} images read back are not the {stream.written} written; check the disk"
        )


def _names(identities: Sequence[str], to: Format) -> list[str]:
    """What the identities are called in the target."""
    if to == "rec":
        return [str(label) for label in range(len(identities))]
    if to == "folder":
        if all(name.isdecimal() for name in identities):  # so that folders sort as numbers do
            wide = max((len(name) for name in identities), default=0)
            return [name.zfill(wide) for name in identities]
        for name in identities:
            if not name or "/" in name or "\0" in name or name.startswith(".") or len(name.encode()) > 255:
                raise DataError(
                    f"identity {name!r} cannot be the name of a folder; convert to shards or parquet"
                )
    return list(identities)


def _write_folder(target: Path, items: Items, names: Sequence[str]) -> None:
    target.mkdir()
    for name in names:
        (target / name).mkdir()
    for number, (image, label) in enumerate(items):
        folder = target if label is None else target / names[label]
        (folder / f"{number:09d}.{image_ending(image, number)}").write_bytes(image)


def _write_rec(target: Path, items: Items, names: Sequence[str]) -> None:
    write_recordio(target / "train", ((image, label or 0) for image, label in items))


def _write_shards(target: Path, items: Items, names: Sequence[str]) -> None:
    write_shards(target, items, names)


def _write_parquet(target: Path, items: Items, names: Sequence[str]) -> None:
    write_parquet(target, items, names)


_WRITERS: dict[Format, Callable[[Path, Items, Sequence[str]], None]] = {
    "rec": _write_rec,
    "folder": _write_folder,
    "shards": _write_shards,
    "parquet": _write_parquet,
}
