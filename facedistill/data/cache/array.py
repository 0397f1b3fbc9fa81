"""Arrays that cost long to compute, computed once and kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from facedistill.errors import DataError, reason
from facedistill.system.files import write_atomically
from facedistill.system.locks import one_at_a_time
from facedistill.system.progress import ProgressBar

_SAVE_EVERY = 32  # blocks between two notes of how far the work is


class KeptArray:
    """A memory-mapped array of N rows whose file name is a hash of all that its content depends on.

    The rows are filled in blocks, in order, by `fill`; how many are done is written next to the file, so an
    interrupted computation goes on where it stopped. Other processes that want the same array wait for it.
    Another teacher, data set or augmentation has another name and is never read by mistake.

    Args:
        folder: Where the file lies.
        name: What it is, the first part of its name.
        depends_on: Everything that decides the content, as JSON.
        shape: (N, ...).
        dtype: Of the elements.

    Attributes:
        path: The file.
    """

    def __init__(
        self, folder: Path, name: str, depends_on: Mapping[str, Any], shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.depends_on = {**depends_on, "shape": list(shape), "dtype": self.dtype.name}
        content = json.dumps(self.depends_on, sort_keys=True)
        self.path = folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.bin"
        self._array: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}  # workers map the file themselves

    def fill(self, compute: Callable[[int, int], np.ndarray], *, block: int, title: str) -> None:
        """Computes what is missing: `compute(start, stop)` returns the rows [start, stop).

        Args:
            compute: Makes a block of rows.
            block: Rows per call.
            title: What the progress on stderr calls it.

        Raises:
            DataError: If the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.path.with_suffix(".lock")):
                self._fill(compute, block, title)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({reason(error)}); set FACEDISTILL_CACHE to a folder with "
                f"{self._num_bytes / 1e9:.1f} GB free"
            ) from error

    def _fill(self, compute: Callable[[int, int], np.ndarray], block: int, title: str) -> None:
        done = self._rows_done()
        if done == self.shape[0]:
            return
        if done == 0:
            self._note_path.unlink(missing_ok=True)  # it is of a file that is gone
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):  # not on macOS
                    os.posix_fallocate(file.fileno(), 0, self._num_bytes)  # a full disk is known at once
                file.truncate(self._num_bytes)
        array = np.memmap(self.path, dtype=self.dtype, mode="r+", shape=self.shape)
        with ProgressBar(title, self.shape[0] - done) as progress:
            for number, start in enumerate(range(done, self.shape[0], block), start=1):
                stop = min(start + block, self.shape[0])
                array[start:stop] = compute(start, stop)
                progress.advance(stop - start)
                if number % _SAVE_EVERY == 0 or stop == self.shape[0]:
                    array.flush()
                    self._note(stop)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self._array is None:
            assert self._rows_done() == self.shape[0], f"{self.path} is not filled"
            self._array = np.memmap(self.path, dtype=self.dtype, mode="r", shape=self.shape)
        return self._array[rows]

    @property
    def _num_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def _note_path(self) -> Path:
        return self.path.with_suffix(".json")

    def _rows_done(self) -> int:
        try:
            note = json.loads(self._note_path.read_text())
            whole = self.path.stat().st_size == self._num_bytes
            return int(note["rows"]) if whole and note["depends_on"] == self.depends_on else 0
        except (OSError, ValueError, TypeError, KeyError):
            return 0

    def _note(self, rows: int) -> None:
        write_atomically(self._note_path, json.dumps({"rows": rows, "depends_on": self.depends_on}, indent=1))
