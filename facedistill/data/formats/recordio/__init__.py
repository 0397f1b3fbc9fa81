"""InsightFace's RecordIO sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedistill.data.formats.base import Format, Items, Truncated
from facedistill.data.formats.face_set import FaceSet


class RecordIO(Format):
    """`train.rec`, `.idx` and `property`; identities are numbers."""

    key, config, title = "rec", "recordio", "RecordIO"
    example = "a folder with train.rec"
    suffixes = in_folder = frozenset({".rec"})
    reads_damaged = True
    keeps_names = False
    size_px = 112

    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """See `RecordIOFaces`."""
        from facedistill.data.formats.recordio.reader import RecordIOFaces

        return RecordIOFaces(path, truncated=truncated)

    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """Writes the files of `write_recordio`; images of an unlabeled set get the label 0."""
        from facedistill.data.formats.recordio.writer import write_recordio

        write_recordio(target / "train", ((image, label or 0) for image, label in items))

    def names_for(self, identities: Sequence[str]) -> list[str]:
        """0, 1, …"""
        return [str(label) for label in range(len(identities))]
