"""Reads insightface's `.bin` verification sets: one pickle of encoded images and of same-or-not flags.

Loading a pickle can run any code. This reader builds lists, tuples, bytes and booleans only.
"""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

from facedistill.errors import DataError, reason


class _PlainUnpickler(pickle.Unpickler):
    """Allows only the function that Python 3 uses to write bytes for Python 2."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="bytes")
        self._left = size  # of bytes: a complete file holds each image once

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return self._latin1
        raise pickle.UnpicklingError(f"names {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("names an object outside the file")

    def _latin1(self, text: str | bytes, encoding: str | bytes = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("encodes something else than bytes")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("encodes more bytes than the file holds")
        return text.encode("latin1")


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """The encoded images and the same-or-not flags of a `.bin` verification set.

    Raises:
        DataError: If the file cannot be read, is cut short, or holds anything but bytes and booleans.
    """
    try:
        with path.open("rb") as file:
            _refuse_far_memo(file)
            content = _PlainUnpickler(file, path.stat().st_size).load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    except Exception as error:  # a hostile or broken pickle raises whatever it likes
        problem = str(error) or type(error).__name__
        fix = "; pickle it again as ([bytes(image) …], [bool(flag) …])" if "names numpy." in problem else ""
        raise DataError(
            f"{path}: is not a plain insightface .bin of bytes and booleans ({problem}); nothing was executed{fix}"
        ) from error
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise DataError(f"{path}: must hold images and same-or-not flags, got {type(content).__name__}")
    images, same = content
    if not isinstance(images, list) or not all(type(image) is bytes for image in images):
        raise DataError(f"{path}: its images must be a list of encoded images (bytes)")
    if not isinstance(same, list) or not all(type(flag) in (bool, int) and flag in (0, 1) for flag in same):
        raise DataError(f"{path}: its same-or-not flags must be a list of booleans")
    return images, [bool(flag) for flag in same]


def _refuse_far_memo(file: BinaryIO) -> None:
    """Refuses memo indices for which the standard reader would allocate gigabytes."""
    for parts, (operation, argument, _) in enumerate(pickletools.genops(file), start=1):
        if operation.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= parts:
            raise pickle.UnpicklingError(f"numbers part {argument} of {parts}")
    file.seek(0)
