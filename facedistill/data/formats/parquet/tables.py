"""A Parquet or Arrow file as groups of rows that can be read alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


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

    def read_group(self, number: int, column: str) -> pa.ChunkedArray:
        """One column of one row group."""
        try:
            return self._file.read_row_group(number, columns=[column], use_threads=False).column(column)
        except _errors() as error:
            raise _unreadable(self.path, error, f", row group {number}") from error

    def read_column(self, column: str) -> pa.ChunkedArray:
        """One whole column."""
        try:
            return self._file.read(columns=[column], use_threads=False).column(column)
        except _errors() as error:
            raise _unreadable(self.path, error, f", column {column}") from error


class ArrowTable:
    """One memory-mapped Arrow stream, as `save_to_disk` writes it, or Arrow file; its batches are the groups."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        try:
            source = pa.memory_map(str(path))
            try:
                self._table = pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                self._table = pa.ipc.open_file(source).read_all()
        except _errors() as error:
            raise _unreadable(path, error) from error
        self.schema: pa.Schema = self._table.schema
        self._batches = self._table.to_batches()
        self.group_sizes = [(batch.num_rows, batch.nbytes) for batch in self._batches]

    def read_group(self, number: int, column: str) -> pa.ChunkedArray:
        """One column of one batch; nothing is copied."""
        import pyarrow as pa

        return pa.chunked_array([self._batches[number].column(column)])

    def read_column(self, column: str) -> pa.ChunkedArray:
        """One whole column; nothing is copied."""
        return self._table.column(column)


def _unreadable(path: Path, error: Exception, part: str = "") -> DataError:
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
    return DataError(f"{path}{part}: cannot be read ({reason}); copy it again or write it again")


def _errors() -> tuple[type[Exception], ...]:
    """What Arrow raises for a damaged file."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError
