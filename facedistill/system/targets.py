"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facedistill.errors import DataError


@contextmanager
def whole_target(target: Path) -> Iterator[Path]:
    """A place beside `target` to write a file or folder to, which becomes `target` when the block ends well.

    Raises:
        DataError: If `target` exists, or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise DataError(f"{target}: is there already; delete it or write to another place")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".writing", dir=target.parent))
        try:
            stage = beside / target.name
            yield stage
            if target.exists():
                raise DataError(f"{target}: has come to be while it was written; write to another place")
            os.rename(stage, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}); free or change the place"
        ) from error
