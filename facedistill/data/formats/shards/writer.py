"""Writes WebDataset tar shards: the same faces always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from facedistill.data.formats.face_set import image_ending
from facedistill.errors import DataError
from facedistill.system.files import new_target

NOTE = "faces.json"


def write_shards(
    folder: str | Path,
    items: Iterable[tuple[bytes, int | None]],
    identities: Sequence[str],
    per_shard: int = 10_000,
    meta: Mapping[str, Any] | None = None,
) -> int:
    """Writes `000000.tar`, `000001.tar`, … and `faces.json`, or nothing at all.

    Any WebDataset reader understands the shards: sample 12 is `000000012.jpg` and `000000012.cls`. `faces.json`
    adds N, K, the identities' names in the order of the labels, `meta`, and each shard's number of images and
    sha256, against which `facedistill data verify` holds them.

    Args:
        folder: Must not exist yet.
        items: (image file, label); label None for an unlabeled set.
        identities: (K,) names; empty when unlabeled.
        per_shard: Most images in a shard.
        meta: What else to keep about the set, as JSON.

    Returns:
        N, the number of images.

    Raises:
        DataError: If the folder exists, there is no image, a label is outside [0, K), an image is no JPEG, PNG
            or WebP file, or writing fails.
    """
    with new_target(Path(folder)) as stage:
        stage.mkdir()
        shards: dict[str, Any] = {}
        labels: set[int] = set()
        count, remaining = 0, iter(items)
        while share := list(islice(remaining, 1)):
            rest = chain(share, islice(remaining, per_shard - 1))
            path = stage / shard_name(len(shards))
            shards[path.name] = write_shard(path, rest, len(identities), first=count, labels=labels)
            count += shards[path.name]["images"]
        if not count:
            raise DataError(f"{folder}: there are no images to write; give a set with images")
        note = {
            "images": count,
            "identities": len(labels),
            "names": list(identities),
            "meta": dict(meta or {}),
        }
        (stage / NOTE).write_text(note_text({**note, "shards": shards}), encoding="utf-8")
    return count


def shard_name(number: int) -> str:
    """`000012.tar`"""
    return f"{number:06d}.tar"


def note_text(note: Mapping[str, Any]) -> str:
    """The text of `faces.json`."""
    return json.dumps(note, indent=1, ensure_ascii=False) + "\n"


def write_shard(
    path: Path,
    items: Iterable[tuple[bytes, int | None]],
    num_identities: int,
    *,
    first: int,
    labels: set[int] | None = None,
) -> dict[str, Any]:
    """Writes one shard.

    Args:
        path: The file.
        items: (image file, label).
        num_identities: K of the set.
        first: Number of the first image in the set.
        labels: Receives the labels that occur.

    Returns:
        Its number of `images` and its `sha256`.

    Raises:
        DataError: If a label is outside [0, K), or an image is no JPEG, PNG or WebP file.
    """
    count = first
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image, label in items:
            ending = image_ending(image, count)
            _check_label(label, num_identities, count)
            _add(tar, f"{count:09d}.{ending}", image)
            if label is not None:
                _add(tar, f"{count:09d}.cls", str(label).encode())
                if labels is not None:
                    labels.add(label)
            count += 1
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"images": count - first, "sha256": digest}


def _check_label(label: int | None, num_identities: int, number: int) -> None:
    if label is None and num_identities:
        raise DataError(f"image {number} has no label, and the set has {num_identities} identities; label it")
    if label is not None and not 0 <= label < num_identities:
        raise DataError(
            f"image {number} has label {label}, outside the {num_identities} identities; name them all"
        )


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mtime, uid and gid 0
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
