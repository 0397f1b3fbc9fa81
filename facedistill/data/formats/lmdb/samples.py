"""From the value of a key to an image and its label, in the layouts of public face sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from facedistill.assets.pickle.reader import read_inert_bytes
from facedistill.data.formats.face_set import image_ending
from facedistill.data.formats.lmdb.msgpack import unpack
from facedistill.data.formats.numbered import LONGEST_NAME
from facedistill.errors import AssetError, DataError

_LABELS = ("label", "identity", "target")


def image_and_label(value: bytes, where: str) -> tuple[bytes, int | str | None]:
    """The image file and the label of one sample.

    A sample is the image file alone, or MessagePack or a pickle of `(image, label, …)`, `(image, features, label, …)`,
    `((image, …), label)`, or a dictionary with the label under `label`, `identity` or `target`. The image is the first
    bytes of JPEG, PNG or WebP; the label is the first whole number, else the first short text. Nothing in a pickle is
    run.

    Raises:
        DataError: If the value holds no image.
    """
    if _is_image(value):
        return value, None
    content = _content(value, where)
    image = next((part for part in _flat(content) if isinstance(part, bytes) and _is_image(part)), None)
    if image is None:
        raise DataError(f"{where} holds no JPEG, PNG or WebP file; write the set again with encoded images")
    return image, _label(content, where)


def content_of(value: bytes) -> Any:
    """What MessagePack or a pickle holds; a pickle begins with the byte 0x80, which MessagePack uses for an empty map.

    Raises:
        ValueError: If it is neither.
    """
    if value[:1] != b"\x80":
        return unpack(value)
    try:
        return read_inert_bytes(value, "its pickle")
    except AssetError as error:
        raise ValueError(str(error)) from error


def _content(value: bytes, where: str) -> Any:
    try:
        return content_of(value)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is neither an image nor MessagePack nor a pickle of one ({error}); write the set again"
        ) from error


def _is_image(value: bytes) -> bool:
    try:
        return bool(image_ending(value, 0))
    except DataError:
        return False


def _flat(content: Any) -> Iterator[Any]:
    """The parts of a sample, those of one inner container too; arrays of bytes as bytes."""
    for part in _parts(content):
        yield from (
            (_as_bytes(inner) for inner in _parts(part))
            if isinstance(part, list | tuple)
            else (_as_bytes(part),)
        )


def _parts(content: Any) -> Iterable[Any]:
    if isinstance(content, dict):
        return list(content.values())
    return content if isinstance(content, list | tuple) else [content]


def _as_bytes(part: Any) -> Any:
    if isinstance(part, np.ndarray) and part.dtype == np.uint8 and part.size == max(part.shape, default=0):
        return part.tobytes()
    return bytes(part) if isinstance(part, bytearray) else part


def _label(content: Any, where: str) -> int | str | None:
    given = [_named(content)] if isinstance(content, dict) else list(_parts(content))
    for part in given:
        if isinstance(part, np.generic):
            part = part.item()
        if isinstance(part, float) and part.is_integer():
            part = int(part)
        if type(part) is int:
            if not 0 <= part < 10**18:
                raise DataError(f"{where} says the label {part}, and a label is a whole number from 0 on")
            return part
    return next((text for text in map(_text, given) if text and len(text) <= LONGEST_NAME), None)


def _text(part: Any) -> str | None:
    try:
        return part.decode() if isinstance(part, bytes) else part if isinstance(part, str) else None
    except UnicodeDecodeError:
        return None


def _named(content: dict[Any, Any]) -> Any:
    texts = {
        key.decode("utf-8", "replace") if isinstance(key, bytes) else key: content[key] for key in content
    }
    return next((texts[name] for name in _LABELS if name in texts), None)
