"""The files of one folder, on this machine or at an fsspec address such as s3://bucket/faces."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from facedistill.errors import DataError, reason
from facedistill.system.files import write_atomically

Result = TypeVar("Result")

_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "created", "size")
_LOCAL_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "http", "requests", "urllib3"}


def is_remote(path: str | Path) -> bool:
    """Whether `path` is an address for fsspec.

    >>> is_remote("s3://bucket/faces"), is_remote("faces/train")
    (True, False)
    """
    return re.match(r"[a-zA-Z][\w+.:-]*://", str(path)) is not None


class Store:
    """The files directly in one folder. A failing store is asked again, with growing pauses, and a note on stderr.

    Pickles; every process connects by itself.

    Args:
        address: A local folder, or an address of a protocol that fsspec knows.

    Raises:
        DataError: From every method, in one sentence, if the store cannot be reached or refuses access.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address).rstrip("/")
        if "::" in self.address:
            raise DataError(f"{address}: chained addresses are not supported; give the address of one folder")
        self._connection: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    def where(self, name: str) -> str:
        """The address of one file."""
        return f"{self.address}/{name}"

    def files(self) -> dict[str, tuple[int, str]]:
        """Size in bytes, and a text that changes when it is written again, of every file; empty without such a folder."""
        found = [one for one in self._listed() if one["type"] == "file"]
        return {
            str(one["name"]).rsplit("/", 1)[-1]: (
                int(one["size"] or 0),
                str([one.get(key) for key in _VERSION_KEYS]),
            )
            for one in found
        }

    def is_empty(self) -> bool:
        """Whether there is neither a file nor a folder in the folder, but for hidden ones."""
        return all(str(one["name"]).rstrip("/").rsplit("/", 1)[-1].startswith(".") for one in self._listed())

    def names(self) -> set[str]:
        """The names of all files."""
        return set(self.files())

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._asked(name, lambda fs, path: fs.exists(path)))

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return bytes(self._asked(name, lambda fs, path: fs.cat_file(path)))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """`size` bytes of one file from byte `start`; fewer where it ends."""
        return bytes(self._asked(name, lambda fs, path: fs.cat_file(path, start=start, end=start + size)))

    def download(self, name: str, target: Path) -> None:
        """Copies one file to the local path `target`, whose size is not reduced before the end."""

        def copy(fs: Any, path: str) -> None:
            with fs.open(path, "rb") as stream, target.open("r+b" if target.exists() else "wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
                file.truncate()

        self._asked(name, copy)

    def upload(self, name: str, source: Path) -> None:
        """Writes a local file under `name`; readers see all of it or the one before."""

        def put(fs: Any, path: str) -> None:
            if _is_local(fs):
                write_atomically(Path(path), lambda part: shutil.copyfile(source, part))
            else:
                fs.put_file(str(source), path)

        self._asked(name, put)

    def write(self, name: str, content: bytes) -> None:
        """Writes one file; readers see all of it or the one before."""

        def put(fs: Any, path: str) -> None:
            if _is_local(fs):
                write_atomically(Path(path), content)
            else:
                fs.pipe_file(path, content)

        self._asked(name, put)

    def remove(self, name: str) -> None:
        """Removes one file, if it is there."""

        def remove(fs: Any, path: str) -> None:
            if fs.exists(path):
                fs.rm_file(path)

        self._asked(name, remove)

    def _listed(self) -> list[dict[str, Any]]:
        def listed(fs: Any, path: str) -> list[dict[str, Any]]:
            fs.invalidate_cache()
            try:
                return [one for one in fs.ls(path, detail=True) if str(one["name"]).rstrip("/") != path]
            except FileNotFoundError:
                return []

        return self._asked("", listed)

    def _connected(self) -> tuple[Any, str]:
        if self._connection is None or self._connection[0] != os.getpid():
            import fsspec

            try:
                fs, root = fsspec.core.url_to_fs(self.address, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise DataError(
                    f"{self.address}: cannot be opened ({reason(error)}); s3:// needs `pip install 'facedistill[s3]'`, "
                    "other protocols the package that fsspec names"
                ) from error
            self._connection = os.getpid(), fs, root.rstrip("/")
        return self._connection[1:]

    def _asked(self, name: str, ask: Callable[[Any, str], Result]) -> Result:
        where = self.where(name) if name else self.address
        for delay_s in (*_DELAYS_S, None):
            try:
                fs, root = self._connected()
                return ask(fs, f"{root}/{name}" if name else root)
            except Exception as error:
                sentence = _final(where, error)
                if sentence is not None:
                    raise DataError(sentence) from error
                if not _passing(error):
                    raise
                if delay_s is None:
                    raise DataError(
                        f"{where}: no answer in {len(_DELAYS_S) + 1} attempts ({reason(error)}); check the network and the "
                        "store, then run the same command again"
                    ) from error
                print(f"{where}: {reason(error)}; asking again in {delay_s:.0f} s", file=sys.stderr)
                time.sleep(delay_s)
        raise AssertionError


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _final(where: str, error: Exception) -> str | None:
    """The message for an error that another attempt cannot change."""
    if "Credential" in type(error).__name__ or "credentials" in str(error).lower():
        return f"{where}: no valid credentials ({reason(error)}); set AWS_PROFILE or those of your store, then run it again"
    if isinstance(error, FileNotFoundError):
        return f"{where}: does not exist ({reason(error)}); check the bucket and the path"
    if isinstance(error, PermissionError):
        return f"{where}: access refused ({reason(error)}); check the credentials and their rights"
    if isinstance(error, OSError) and error.errno in _LOCAL_FAULTS:
        return f"{where}: cannot be copied ({reason(error)}); free space on this machine"
    return None


def _passing(error: Exception) -> bool:
    return isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in _CLIENTS
