"""Files and folders that are written completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from facedistill.errors import DataError, UserError, os_errors_as

UNFINISHED = ".writing"
"""Ending of the hidden files and folders that are not complete; a killed process leaves them behind."""
_UNPACKED_BYTES, _UNPACKED_TIMES = (
    256 << 20,
    50,
)  # that an archive unpacks to: so many bytes, or times its size


def write_atomically(path: Path, content: str | bytes | Callable[[Path], object]) -> Path:
    """Replaces `path` by `content`; see `atomic_path`.

    Args:
        path: The file; its folder is made.
        content: Text, written in UTF-8; bytes; or a function that writes the file at the path that it is given.

    Returns:
        `path`.

    Raises:
        UserError: If the file cannot be written.
    """
    with atomic_path(path) as unfinished:
        if isinstance(content, str):
            unfinished.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            unfinished.write_bytes(content)
        else:
            content(unfinished)
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    """Replaces `path` by a compressed archive of NumPy arrays.

    Raises:
        UserError: If the file cannot be written.
    """
    import numpy as np

    with atomic_path(path) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return path


def read_npz(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The arrays `names` of an archive of NumPy arrays; those that it lacks are left out.

    Raises:
        OSError, ValueError, EOFError, zipfile.BadZipFile: If it is no such archive, or unpacks to more than its size
            explains.
    """
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(_UNPACKED_BYTES, _UNPACKED_TIMES * path.stat().st_size):
        raise ValueError(f"it unpacks to {unpacked:,} bytes, too much for its size")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names if name in arrays.files}
    except MemoryError as error:
        raise ValueError("it claims an array larger than the memory") from error
    except (zlib.error, RuntimeError) as error:  # damaged inside, or encrypted
        raise ValueError(str(error)) from error


@contextmanager
def atomic_path(
    path: Path, kind: type[UserError] = UserError, fix: str = "free space or choose another folder"
) -> Iterator[Path]:
    """A path in the same folder to write a file to, which becomes `path` when the block ends without an exception.

    The file is flushed to the disk before it takes its name. Readers, a killed process and a power cut therefore find
    the old file or the new one, never a part. Several processes may write the same file; the last one wins.

    Args:
        path: The file; its folder is made.
        kind: Error to raise.
        fix: Last part of the error's message.

    Raises:
        UserError: If the file cannot be written (read-only folder, full disk); nothing is left behind.
    """
    unfinished = _unfinished(path)
    with os_errors_as(kind, f"{path} cannot be written", fix):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.touch(exist_ok=False)
            mode = unfinished.stat().st_mode
            yield unfinished
            unfinished.chmod(mode)  # safetensors makes its files readable by their owner only
            move_into_place(unfinished, path)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


@contextmanager
def new_target(target: Path) -> Iterator[Path]:
    """A path to write a new file or folder to, which becomes `target` when the block ends without an exception.

    Raises:
        DataError: If `target` exists or cannot be written.
    """
    if os.path.lexists(target):
        raise DataError(f"{target} exists already; delete it or choose another path")
    folder = _unfinished(target)
    with os_errors_as(DataError, f"{target} cannot be written", "free space or choose another folder"):
        try:
            folder.mkdir(parents=True)
            stage = folder / target.name
            yield stage
            for path in (*stage.rglob("*"), stage):
                flush(path)
            if os.path.lexists(target):
                raise DataError(f"{target} was created by another process meanwhile; choose another path")
            os.rename(stage, target)
            flush(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def move_into_place(unfinished: Path, path: Path) -> None:
    """Renames a complete file of the same file system to `path`, its bytes on the disk before its name."""
    flush(unfinished)
    os.replace(unfinished, path)
    flush(path.parent)


def refuse_links(folder: Path) -> None:
    """Refuses a run folder with a symbolic link in it, which could lead a reader, a writer or an upload to files elsewhere.

    Pipes and devices, on which a reader would wait, are refused too. `folder` itself may be a link, and wandb's links in
    `wandb/` are not looked at.

    Raises:
        UserError: Naming the first.
    """
    for place, folders, names in os.walk(folder):
        for path in (Path(place, name) for name in sorted([*folders, *names])):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
                raise UserError(
                    f"{path} is {kind}; a run consists of its own files only, put a copy in its place"
                )
        if "wandb" in folders and Path(place) == folder:
            folders.remove("wandb")


def refuse_aliases(text: str, where: str) -> None:
    """Refuses a configuration that repeats a part by `*name`: nine lines of it can stand for a billion values.

    Raises:
        UserError: Naming the line.
    """
    import yaml

    if "*" not in text or "&" not in text:
        return
    with suppress(yaml.YAMLError, RecursionError):  # the reader says what is wrong
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise UserError(f"{where}, line {line}: repeats a part by *{event.anchor}; write it out")


def flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot flush a folder
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}{UNFINISHED}")
