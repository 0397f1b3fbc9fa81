"""The checkpoint files of a run: `last.ckpt` and the one before it, each whole or not used."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from facedistill.errors import UserError
from facedistill.system.files import UNFINISHED, flush


def previous_of(path: Path) -> Path:
    """Where the checkpoint before `path` lies."""
    return path.with_name("previous.ckpt")


def replace_checkpoint(unfinished: Path, path: Path) -> None:
    """Makes `unfinished` the newest checkpoint, and the newest the one before.

    The bytes are on the disk before the names change, so that after a power cut too at least one of `path` and
    `previous_of(path)` is whole. A kill between the two renames leaves no `path`; `newest_intact` finds the other.
    """
    flush(unfinished)
    with suppress(FileNotFoundError):
        os.replace(path, previous_of(path))
    os.replace(unfinished, path)
    flush(path.parent)


def newest_intact(path: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that can be continued, and the damaged ones that were passed over.

    Args:
        path: Where the newest should lie.

    Returns:
        `path`, or the one before it, or None where there is no checkpoint at all; and what is damaged.

    Raises:
        UserError: If all that there are are damaged, or one cannot be read.
    """
    there = [place for place in (path, previous_of(path)) if place.exists()]
    damaged: list[Path] = []
    for place in there:
        if _is_whole(place):
            return place, damaged
        damaged.append(place)
    if damaged:
        names = " and ".join(str(place) for place in damaged)
        raise UserError(
            f"{names} {'are' if damaged[1:] else 'is'} damaged and cannot be continued; force=true starts the run over"
        )
    return None, []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU; tensors stay in the file until they are looked at."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes the unfinished files that a killed process left in a run folder."""
    older = [*folder.glob("*.part"), *folder.glob(".*.partial")]  # written by versions before 0.2
    for file in [*folder.rglob(f".*{UNFINISHED}"), *older]:
        file.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether every byte is as it was written: the archive's directory, its checksums, and what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None and "state_dict" in read_checkpoint(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); make it readable, or force=true starts the run over"
        ) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        NotImplementedError,
    ):
        return False
