"""Writes a file whole or leaves the old one."""

from __future__ import annotations

import os
from pathlib import Path

from facedistill.errors import UserError


def write_whole(path: Path, text: str) -> Path:
    """Replaces `path` by `text` in UTF-8.

    Raises:
        UserError: If the folder is missing or cannot be written, or the disk is full.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); give a folder that can be written or free some space"
        ) from error
    return path
