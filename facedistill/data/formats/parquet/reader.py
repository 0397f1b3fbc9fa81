"""Faces in Parquet files and Hugging Face `save_to_disk` folders, by pyarrow alone."""

from __future__ import annotations

import glob
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.data.formats.numbered import LONGEST_NAME, numbered
from facedistill.data.formats.parquet.tables import ArrowTable, OversizedError, ParquetTable
from facedistill.data.formats.parquet.writer import write_parquet
from facedistill.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetFaces", "table_paths", "write_parquet"]

_LABELS = ("label", "identity")
_KEPT_BYTES = 64 << 20
_MAX_GROUP_ROWS = 32
_SPLIT = re.compile(r"(.+?)-\d{5}-of-\d{5}\.(?:parquet|arrow)")


class ParquetFaces:
    """Faces in a table with a column `image` and, if labeled, `label` or `identity`; see `FaceSet`.

    An image is `{bytes, path}`, as Hugging Face's `Image` feature stores it, or binary. A label is a whole number
    (named by the `ClassLabel` of Hugging Face's metadata, if there), or a name. Labels are renumbered without
    gaps; `identities` keeps what they were. Opening reads the labels and no image; of a Parquet file a whole row
    group is read for one image, and the last ones, up to 64 MiB, are kept.

    Args:
        path: A .parquet or .arrow file, a folder of .parquet files, a pattern (`data/train-*.parquet`), or a
            folder that `datasets.Dataset.save_to_disk` wrote.

    Attributes:
        labels, identities, fingerprint: See `FaceSet`.
        read_at_once: (images, bytes) of the largest row group that is read for one image.
        kept_whole: Whether the whole set stays in memory once it is read.

    Raises:
        DataError: In one sentence, if there is no such table, or it is not what it should be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._paths = table_paths(path)
        self._start_afresh()
        tables = [self._table(number) for number in range(len(self._paths))]
        for place, table in zip(self._paths, tables, strict=True):
            _check_image_column(place, table.schema)
        groups = [size for table in tables for size in table.group_sizes]
        self._group_files = np.repeat(np.arange(len(tables)), [len(table.group_sizes) for table in tables])
        self._group_numbers = np.concatenate([np.arange(len(table.group_sizes)) for table in tables])
        self._starts = np.concatenate([[0], np.cumsum([rows for rows, _ in groups], dtype=np.int64)])
        if not self._starts[-1]:
            raise DataError(f"{path}: holds no rows; give the table of a face set")
        copied = [size for table in tables if isinstance(table, ParquetTable) for size in table.group_sizes]
        self.read_at_once = max(copied, key=lambda group: group[1], default=(1, 0))
        self.kept_whole = sum(size for _, size in copied) <= _KEPT_BYTES
        self.labels, self.identities = self._read_labels(tables)
        weights = [size for _, size in groups]
        sizes = np.repeat(np.array(weights, np.int64), [rows for rows, _ in groups])
        self.fingerprint = fingerprint_of(sizes, self.labels, self.identities, self._encoded_or_nothing)

    def __len__(self) -> int:
        """N, the number of rows."""
        return int(self._starts[-1])

    def encoded(self, index: int) -> bytes:
        """The file of one image, as stored.

        Raises:
            DataError: If the row holds none, or cannot be read.
        """
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        value = self._images(group)[index - int(self._starts[group])].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            path = value.get("path") if isinstance(value, dict) else None
            what = f"only the path {path} of an image" if path else "no image"
            raise DataError(f"{self.where(index)} holds {what}; write the table with the images' bytes in it")
        return bytes(data)

    def where(self, index: int) -> str:
        """`…/train-00000-of-00002.parquet, row 12`, rows counted from 0 in each file."""
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        file = self._group_files[group]
        first = self._starts[int(np.searchsorted(self._group_files, file))]
        return f"{self._paths[file]}, row {index - int(first)}"

    def warnings(self) -> Iterator[str]:
        """A message if reading in random order is slow."""
        rows, size = self.read_at_once
        if not self.kept_whole and rows > _MAX_GROUP_ROWS:
            yield (
                f"row groups of up to {rows:,} images ({size / 2**20:,.0f} MiB) are read whole for one image, which is "
                f"slow in random order; write smaller ones with `facedistill data convert {self.path} NEW --to parquet`"
            )

    def __getstate__(self) -> dict[str, Any]:
        ours = ("_tables", "_kept", "_kept_bytes", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._tables: dict[int, ParquetTable | ArrowTable] = {}
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def _table(self, number: int) -> ParquetTable | ArrowTable:
        if number not in self._tables:
            path = self._paths[number]
            self._tables[number] = ArrowTable(path) if path.suffix == ".arrow" else ParquetTable(path)
        return self._tables[number]

    def _images(self, group: int) -> pa.ChunkedArray:
        """Column `image` of one row group; those read last are kept."""
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
                return self._kept[group]
            table = self._table(int(self._group_files[group]))
            images = table.read_group(int(self._group_numbers[group]), "image")
            self._kept[group] = images
            self._kept_bytes += images.nbytes
            while len(self._kept) > 1 and self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
            return images

    def _encoded_or_nothing(self, index: int) -> bytes:
        try:
            return self.encoded(index)
        except OversizedError:
            raise
        except DataError:
            return b""

    def _read_labels(self, tables: list[ParquetTable | ArrowTable]) -> tuple[np.ndarray | None, list[str]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = {next((name for name in _LABELS if name in table.schema.names), None) for table in tables}
        if len(columns) > 1:
            raise DataError(f"{self.path}: its files do not agree on the column of labels; write them alike")
        column = columns.pop()
        if column is None:
            return None, []
        found = pa.chunked_array(
            [chunk for table in tables for chunk in table.read_column(column).chunks],
            type=tables[0].schema.field(column).type,
        )
        if found.null_count == len(found):
            return None, []
        if found.null_count:
            raise DataError(
                f"{self.path}: {found.null_count} of {len(found)} images have no {column}; label all, or none for "
                "an unlabeled set"
            )
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if pa.types.is_string(found.type) or pa.types.is_large_string(found.type):
            if (longest := pc.max(pc.binary_length(found)).as_py()) > 4 * LONGEST_NAME:
                raise DataError(
                    f"{self.path}: column {column} has a name of {longest} bytes; use at most {LONGEST_NAME} characters"
                )
            return numbered(found.to_numpy().astype(str))
        if not pa.types.is_integer(found.type):
            raise DataError(
                f"{self.path}: column {column} is {found.type}; labels are whole numbers or names"
            )
        return self._number(found.to_numpy().astype(np.int64), column, _class_names(tables[0].schema, column))

    def _number(
        self, found: np.ndarray, column: str, names: list[str] | None
    ) -> tuple[np.ndarray | None, list[str]]:
        if found.min() < 0:
            raise DataError(
                f"{self.path}: {int((found < 0).sum())} labels are below 0, which means unknown; remove these rows"
            )
        if names is not None and found.max() >= len(names):
            raise DataError(
                f"{self.path}: label {found.max()} is beyond the {len(names)} names of column {column}; write the "
                "table again"
            )
        return numbered(found, names)


def table_paths(path: str | Path) -> list[Path]:
    """The files of a table, in order.

    Raises:
        DataError: If there is none, or they are several splits.
    """
    root = Path(path)
    if (root / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in root.iterdir() if (child / "state.json").is_file())
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)}; give one, for example {root / splits[0]}"
            if splits
            else f"{path}: holds a dataset_dict.json and no split; copy it again"
        )
    if (root / "state.json").is_file():
        found = _saved_files(root)
    elif root.is_dir():
        found = sorted(root.rglob("*.parquet"))
    elif root.exists():
        found = [root]
    else:
        found = sorted(Path(match) for match in glob.glob(str(path)))
    if not found:
        raise DataError(f"{path}: holds no .parquet file; give one, a folder or a pattern of them")
    splits = sorted({match[1] for file in found if (match := _SPLIT.fullmatch(file.name))})
    if len(splits) > 1:
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)}; give one, for example "
            f"'{found[0].parent / splits[0]}-*{found[0].suffix}'"
        )
    return found


def _saved_files(root: Path) -> list[Path]:
    try:
        state = json.loads((root / "state.json").read_text(encoding="utf-8"))
        found = [root / str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{root}: its state.json is damaged; save the data set again") from None
    if state.get("_indices_data_files"):
        raise DataError(f"{root}: is a selection of rows; save it after flatten_indices()")
    missing = [file.name for file in found if not file.is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(found)} files are missing, {missing[0]} first; copy it again"
        )
    return found


def _check_image_column(path: Path, schema: pa.Schema) -> None:
    import pyarrow as pa

    if "image" not in schema.names:
        raise DataError(
            f"{path}: has no column image, only {', '.join(schema.names) or 'none'}; rename the column of the images"
        )
    kind = schema.field("image").type
    binary = (pa.types.is_binary, pa.types.is_large_binary)
    inner = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    )
    if not any(check(inner) for check in binary):
        raise DataError(
            f"{path}: column image is {kind}; it must hold encoded images, binary or {{bytes, path}}"
        )


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of Hugging Face's `ClassLabel`; None where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(type(name) is str for name in names) else None
