"""`faces.json`, which lies next to shards written by this package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facedistill.data.formats.shards.writer import NOTE
from facedistill.errors import DataError, reason


def bytes_id(shards: Mapping[str, Any]) -> str:
    """Sixteen digits that stand for every byte of the shards: a hash of their names and sha256."""
    listed = sorted((name, shard["sha256"]) for name, shard in shards.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def read_note(paths: list[Path]) -> dict[str, Any] | None:
    """What was written next to the shards; None for shards of another writer."""
    place = paths[0].parent / NOTE
    if not place.is_file() or any(path.parent != place.parent for path in paths):
        return None
    try:
        return parse_note(place.read_bytes(), str(place))
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({reason(error)}); copy it again") from error


def parse_note(content: bytes, where: str) -> dict[str, Any]:
    """A note, checked.

    Raises:
        DataError: If it is damaged, or says that the generation of the set is not finished.
    """
    try:
        note = dict(json.loads(content))
        if note.get("unfinished"):
            raise DataError(
                f"{where}: the generation of this set is not finished; run the remaining `facedistill generate --shard`"
            )
        whole = (
            isinstance(note["names"], list)
            and all(type(name) is str for name in note["names"])
            and all(type(shard["images"]) is int for shard in note["shards"].values())
            and ("id" not in note or note["id"] == bytes_id(note["shards"]))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{where}: is damaged; copy it again, or delete it to go by the shards alone")
    return note


def check_note(
    folder: str, names: Sequence[str], shards_there: int, note: Mapping[str, Any], num_images: int
) -> None:
    """Compares a note with the shards that were read.

    Args:
        folder: What to call the folder in a message.
        names: Of the shards that were read.
        shards_there: Number of shards in the folder.
        note: Of the folder.
        num_images: That they hold.

    Raises:
        DataError: If the note lists other shards, or another number of images.
    """
    shards, place = note["shards"], f"{folder}/{NOTE}"
    known = [name for name in names if name in shards]
    if len(known) < len(names):
        raise DataError(
            f"{place}: does not list {len(names) - len(known)} of {len(names)} shards; remove those"
        )
    stated = sum(shards[name]["images"] for name in known)
    if len(names) == shards_there and len(known) < len(shards):
        raise DataError(
            f"{place}: names {len(shards)} shards, and {len(known)} are there; copy the others too"
        )
    if stated != num_images:
        raise DataError(f"{place}: says {stated} images, and the shards hold {num_images}; copy all again")
