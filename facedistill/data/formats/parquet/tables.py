"""A Parquet or Arrow file as groups of rows that can be read alone.

A few kilobytes can claim billions of rows, or unpack to terabytes. Both are refused: rows before anything is read, bytes
while they are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_OF_ANY_SIZE = 100_000
_BYTES_PER_ROW = 16  # of a file with more rows than that; an encoded image takes hundreds
_MOST_BYTES = 32 << 20  # that a column or group of a small file unpacks to
_MOST_TIMES = 50  # its size
_STEP_BYTES, _STEP_ROWS = 16 << 20, 1 << 16


class OversizedError(DataError):
    """A table unpacks to more than its size explains."""


class ParquetTable:
    """One Parquet file.

    Attributes:
        schema: Arrow's, with Hugging Face's metadata.
        group_sizes: (rows, bytes of the images) of each row group that has rows; group g is its place in the file.

    Raises:
        DataError: If it is no whole Parquet file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
            self.schema: pa.Schema = self._file.schema_arrow
            metadata = self._file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        except _errors() as error:
            raise _unreadable(path, error) from error
        self.group_sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        _check_rows(path, (group.num_rows for group in groups))
        self._size = path.stat().st_size

    def read_group(self, number: int, column: str) -> pa.ChunkedArray:
        """One column of one row group."""
        return self._read([number], column, f", row group {number}")

    def read_column(self, column: str) -> pa.ChunkedArray:
        """One complete column."""
        return self._read(list(range(len(self.group_sizes))), column, f", column {column}")

    def _read(self, groups: list[int], column: str, part: str) -> pa.ChunkedArray:
        """In steps: one entry of a dictionary can stand in every row."""
        import pyarrow as pa

        field = self.schema.field(column)
        stated = [self.group_sizes[group][1] for group in groups]
        largest = max(stated, default=0)
        fitting = _STEP_ROWS if pa.types.is_integer(field.type) else _STEP_BYTES // (largest + 1)
        rows = max(1, min(_STEP_ROWS, fitting))
        most = max(_MOST_BYTES, _MOST_TIMES * min(self._size, sum(stated)))
        oversized = OversizedError(
            f"{self.path}{part}: unpacks to more than {most >> 20} MiB, too much for its size; remove the file, or write "
            "it again without compression"
        )
        if largest > most:
            raise oversized
        chunks, taken = [], 0
        try:
            for batch in self._file.iter_batches(
                rows, row_groups=groups, columns=[column], use_threads=False
            ):
                taken += batch.nbytes
                if taken > most:
                    raise oversized
                chunks.append(batch.column(column))
        except _errors() as error:
            raise _unreadable(self.path, error, part) from error
        return pa.chunked_array(chunks, type=field.type)


class ArrowTable:
    """One memory-mapped Arrow stream, as `save_to_disk` writes it, or Arrow file; its batches are the groups."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        try:
            source = pa.memory_map(str(path))
            is_file = source.read(6) == b"ARROW1"
            source.seek(8 if is_file else 0)
            _refuse_compressed(path, pa.ipc.MessageReader.open_stream(source))
            source.seek(0)
            self._table = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).read_all()
            self._table.validate(full=True)
        except _errors() as error:
            raise _unreadable(path, error) from error
        self.schema: pa.Schema = self._table.schema
        self._batches = self._table.to_batches()
        self.group_sizes = [(batch.num_rows, batch.nbytes) for batch in self._batches]
        _check_rows(path, (batch.num_rows for batch in self._batches))

    def read_group(self, number: int, column: str) -> pa.ChunkedArray:
        """One column of one batch; nothing is copied."""
        import pyarrow as pa

        return pa.chunked_array([self._batches[number].column(column)])

    def read_column(self, column: str) -> pa.ChunkedArray:
        """One complete column; nothing is copied."""
        return self._table.column(column)


def _check_rows(path: Path, rows: Iterable[int]) -> None:
    """Refuses a file that claims more rows than it can hold images."""
    size, count = path.stat().st_size, sum(rows)
    if count > _ROWS_OF_ANY_SIZE and count * _BYTES_PER_ROW > size:
        raise DataError(
            f"{path}: claims {count:,} rows in {size:,} bytes, too few for images; remove the file"
        )


def _refuse_compressed(path: Path, messages: Iterable[pa.Message]) -> None:
    """`save_to_disk` compresses nothing, and Arrow would unpack each batch at once, however large it says it is."""
    for message in messages:
        data = memoryview(message.metadata)
        table = _follow(data, 0)
        if message.type == "dictionary":
            table = _follow(data, _field(data, _follow(data, _field(data, table, 2)), 1))
        elif message.type == "record batch":
            table = _follow(data, _field(data, table, 2))
        else:
            continue
        if _field(data, table, 3):  # RecordBatch.compression
            raise DataError(
                f"{path}: is compressed; write it again with datasets' save_to_disk, or as Parquet"
            )


def _follow(data: memoryview, place: int) -> int:
    """Where the reference at `place` of a flatbuffer leads."""
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: memoryview, table: int, number: int) -> int:
    """Where field `number` of a flatbuffer's table is; 0 if it has none."""
    names = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, names)[0]:
        return 0
    offset = struct.unpack_from("<H", data, names + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _unreadable(path: Path, error: Exception, part: str = "") -> DataError:
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
    return DataError(f"{path}{part}: cannot be read ({reason}); copy it again or write it again")


def _errors() -> tuple[type[Exception], ...]:
    """What Arrow raises for a damaged file."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError, struct.error
