"""`faces.json`, which `write_shards` writes next to its shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facedistill.data.formats.shards.writer import NOTE
from facedistill.errors import DataError


def read_note(paths: list[Path]) -> dict[str, Any] | None:
    """What `write_shards` wrote next to the shards; None for shards of another writer."""
    place = paths[0].parent / NOTE
    if not place.is_file() or any(path.parent != place.parent for path in paths):
        return None
    try:
        note = json.loads(place.read_text(encoding="utf-8"))
        whole = (
            isinstance(note["names"], list)
            and all(type(name) is str for name in note["names"])
            and all(type(shard["images"]) is int for shard in note["shards"].values())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{place}: is damaged; copy it again, or delete it to go by the shards alone")
    return dict(note)


def check_note(paths: list[Path], note: dict[str, Any], num_images: int) -> None:
    shards = note["shards"]
    known = [path for path in paths if path.name in shards]
    place = paths[0].parent / NOTE
    if len(known) < len(paths):
        raise DataError(
            f"{place}: does not list {len(paths) - len(known)} of {len(paths)} shards; remove those"
        )
    stated = sum(shards[path.name]["images"] for path in known)
    complete = len(paths) == len(sorted(paths[0].parent.glob("*.tar")))
    if complete and len(known) < len(shards):
        raise DataError(
            f"{place}: names {len(shards)} shards, and {len(known)} are there; copy the others too"
        )
    if stated != num_images:
        raise DataError(f"{place}: says {stated} images, and the shards hold {num_images}; copy all again")
