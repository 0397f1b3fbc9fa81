"""Parquet files and Hugging Face folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facedistill.data.formats.base import Format, Items, Truncated
from facedistill.data.formats.face_set import FaceSet


class Parquet(Format):
    """Parquet files with a column of images, or a folder that `datasets.Dataset.save_to_disk` wrote."""

    key, config, title = "parquet", "parquet", "Parquet or Hugging Face table"
    example = ".parquet files or a Hugging Face save_to_disk folder"
    suffixes = frozenset({".parquet", ".arrow"})
    in_folder = frozenset({".parquet"})
    in_subfolders = True
    takes_patterns = True

    def owns_folder(self, root: Path) -> bool:
        """Whether `save_to_disk` wrote the folder."""
        return (root / "state.json").is_file() or (root / "dataset_dict.json").is_file()

    def open(self, path: str | Path, truncated: Truncated) -> FaceSet:
        """See `ParquetFaces`."""
        from facedistill.data.formats.parquet.reader import ParquetFaces

        return ParquetFaces(path)

    def write(self, target: Path, items: Items, names: Sequence[str]) -> None:
        """See `write_parquet`."""
        from facedistill.data.formats.parquet.writer import write_parquet

        write_parquet(target, items, names)
