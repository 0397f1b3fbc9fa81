"""Writes WebDataset tar shards: the same faces always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
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
        items: (image file, label); label None for an unlabelled set.
        identities: (K,) names; empty when unlabelled.
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
        count, used = 0, set()
        remaining = iter(items)
        while share := islice(remaining, per_shard):
            path = stage / f"{len(shards):06d}.tar"
            with ExitStack() as stack:
                tar = None
                begun = count
                for image, label in share:
                    if tar is None:
                        tar = stack.enter_context(tarfile.open(path, "w", format=tarfile.USTAR_FORMAT))
                    ending = image_ending(image, count)
                    _check_label(label, len(identities), count)
                    _add(tar, f"{count:09d}.{ending}", image)
                    if label is not None:
                        _add(tar, f"{count:09d}.cls", str(label).encode())
                        used.add(label)
                    count += 1
            if tar is None:
                break
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            shards[path.name] = {"images": count - begun, "sha256": digest}
        if not count:
            raise DataError(f"{folder}: there are no images to write; give a set with images")
        note = {"images": count, "identities": len(used), "names": list(identities), "meta": dict(meta or {})}
        text = json.dumps({**note, "shards": shards}, indent=1, ensure_ascii=False)
        (stage / NOTE).write_text(text + "\n", encoding="utf-8")
    return count


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
