"""The same face set in another format."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.data.formats.base import all_formats
from facedistill.data.formats.face_set import FaceSet
from facedistill.data.formats.open import open_faces
from facedistill.data.formats.verify import problem_of
from facedistill.errors import DataError
from facedistill.system.files import new_target
from facedistill.system.progress import ProgressBar


@dataclass(frozen=True)
class Converted:
    """What a conversion did: images written, images left out, whether the identities' names were lost."""

    written: int
    skipped: int
    names_lost: bool


def convert(source: str | Path, target: Path, to: str, *, skip_damaged: bool = False) -> Converted:
    """Writes every image, bytes unchanged, with its identity to `target`, and reads all of it back.

    The target gets its name only when each image has been found again in it with the right identity. A folder
    comes sorted by identity; the other formats keep the order.

    Args:
        source: Any face set.
        target: Must not exist yet.
        to: Key of the format to write.
        skip_damaged: Leave damaged images out, each named on standard error, instead of stopping at the first.

    Raises:
        DataError: If the source is damaged and `skip_damaged` false, the target exists, or writing fails.
    """
    form = next(form for form in all_formats() if form.key == to)
    with new_target(target) as stage:
        faces = open_faces(source, truncated="drop" if skip_damaged else "refuse")
        names = form.names_for(faces.identities)
        stream = _Stream(faces, source, names, size_px=form.size_px, skip=skip_damaged)
        form.write(stage, iter(stream), names)
        _compare(open_faces(stage), stream, target)
    skipped = stream.skipped + len(getattr(faces, "damage", []))
    return Converted(stream.written, skipped, not form.keeps_names and names != faces.identities)


class _Stream:
    """Images and labels of the source, and a checksum that does not depend on their order."""

    def __init__(
        self, faces: FaceSet, source: str | Path, names: Sequence[str], *, size_px: int | None, skip: bool
    ) -> None:
        self.faces, self.source, self.names, self.size_px, self.skip = faces, source, names, size_px, skip
        self.written = self.skipped = self.images = self.owned = 0

    def __iter__(self) -> Iterator[tuple[bytes, int | None]]:
        with ProgressBar("converting", len(self.faces)) as progress:
            for index in range(len(self.faces)):
                progress.advance()
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
    """Compares what was written with what was read."""
    images = 0
    with ProgressBar("reading back", len(written)) as progress:
        for index in range(len(written)):
            name = "" if written.labels is None else written.identities[int(written.labels[index])]
            images += _digest(written.encoded(index), name)
            progress.advance()
    expected = stream.images if written.labels is None else stream.owned
    if len(written) != stream.written or images != expected:
        raise DataError(
            f"{target}: {len(written)} images read back are not the {stream.written} written; check the disk"
        )
