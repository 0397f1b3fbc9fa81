"""The checkpoint files of a run: `last.ckpt` and the one before it, `previous.ckpt`."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from facedistill.errors import UserError, reason
from facedistill.system.files import UNFINISHED, flush


def previous_of(path: Path) -> Path:
    """Path of the checkpoint before `path`."""
    return path.with_name("previous.ckpt")


def replace_checkpoint(unfinished: Path, path: Path) -> None:
    """Renames `path` to `previous.ckpt` and `unfinished` to `path`.

    The bytes are on the disk before the names change, so that one of the two checkpoints is intact even after a power
    cut. A kill between the two renames leaves no `path`; `newest_intact` then finds the previous one.
    """
    flush(unfinished)
    with suppress(FileNotFoundError):
        os.replace(path, previous_of(path))
    os.replace(unfinished, path)
    flush(path.parent)


def newest_intact(path: Path) -> tuple[Path | None, list[Path]]:
    """Finds the newest checkpoint that can be continued.

    Args:
        path: Of the newest checkpoint.

    Returns:
        `path`, the previous checkpoint, or None if there is no checkpoint; and the damaged ones that were skipped.

    Raises:
        UserError: If every checkpoint is damaged, or one cannot be read.
    """
    existing = [file for file in (path, previous_of(path)) if file.exists()]
    damaged: list[Path] = []
    for file in existing:
        if _is_intact(file):
            return file, damaged
        damaged.append(file)
    if damaged:
        names = " and ".join(map(str, damaged))
        raise UserError(
            f"{names} {'are' if damaged[1:] else 'is'} damaged and cannot be continued; force=true starts the run over"
        )
    return None, []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint on the CPU; tensors are read from the file when they are used."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes the unfinished files that a killed process left in a run folder."""
    older = [*folder.glob("*.part"), *folder.glob(".*.partial")]  # of older versions
    for file in [*folder.rglob(f".*{UNFINISHED}"), *older]:
        file.unlink(missing_ok=True)


def _is_intact(path: Path) -> bool:
    """Whether the zip directory and all checksums are right and the contents can be loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if (
                any(info.compress_type for info in members)
                or sum(m.file_size for m in members) > path.stat().st_size
            ):
                return False  # torch compresses nothing
            return archive.testzip() is None and "state_dict" in read_checkpoint(path)
    except (
        FileNotFoundError,
        EOFError,
        RuntimeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ):
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); make it readable, or force=true starts the run over"
        ) from error
