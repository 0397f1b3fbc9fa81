"""From the members of a tar to images and labels, by WebDataset's rules."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from facedistill.data.formats.numbered import LONGEST_NAME
from facedistill.data.formats.shards.tar_members import Member
from facedistill.errors import DataError

IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_LABELS = frozenset({"cls", "json"})
_TABLES = frozenset({"txt", "tsv", "csv", "md"})
_LONGEST_LABEL = 1 << 20


def samples(found: Iterator[Member]) -> Iterator[list[tuple[str, Member]]]:
    """Runs of members with one key, each with its ending; files without key or ending belong to none.

    Runs of texts and tables alone, such as the pairs of a benchmark, are left out.

    Where damage cuts the run short, the sample before it comes only if no label of it can be missing.

    Raises:
        DataError: Whatever `found` raises, after the samples before the damage.
    """
    current: list[tuple[str, Member]] = []
    key, seen = None, False
    try:
        for member in found:
            folder, _, base = member.name.rpartition("/")
            stem, dot, ending = base.partition(".")
            if not stem or not dot:
                continue
            if current and (folder, stem) != key:
                seen = seen or _is_labeled(current)
                if not _is_table(current):
                    yield current
                current = []
            key = (folder, stem)
            current.append((ending.rpartition(".")[2].lower(), member))
    except DataError:
        if current and (_is_labeled(current) or not seen):
            yield current
        raise
    if current and not _is_table(current):
        yield current


def _is_table(sample: list[tuple[str, Member]]) -> bool:
    return all(ending in _TABLES for ending, _ in sample)


def _is_labeled(sample: list[tuple[str, Member]]) -> bool:
    return any(ending in _LABELS for ending, _ in sample)


def image_and_label(fd: int, path: str, sample: list[tuple[str, Member]]) -> tuple[Member, int | str | None]:
    images = [member for ending, member in sample if ending in IMAGES]
    where = f"{path}, byte {sample[0][1].header}"
    key = sample[0][1].name.rpartition("/")[2].partition(".")[0]
    if len(images) != 1:
        raise DataError(
            f"{where}: sample {key!r} has {len(images)} images and must have one; give each image a name of its "
            "own up to the first dot"
        )
    label: int | str | None = None
    for ending, member in sample:
        if ending not in _LABELS:
            continue
        if member.size > _LONGEST_LABEL:
            raise DataError(f"{where}: {member.name} has {member.size} bytes, too many for a label; fix it")
        content = os.pread(fd, member.size, member.start)
        if ending == "cls":
            if not re.fullmatch(rb"\s*\d{1,18}\s*", content):
                said = content[:40].decode("utf-8", "replace")
                raise DataError(
                    f"{where}: {member.name} says {said!r}, and a label is a whole number from 0 on"
                )
            return images[0], int(content)
        label = _from_json(content, f"{where}: {member.name}")
    return images[0], label


def _from_json(content: bytes, where: str) -> int | str | None:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError(f"{where} is not JSON; write it again") from None
    if not isinstance(fields, dict):
        raise DataError(f'{where} must hold an object with "label" or "identity"; write it again')
    label, identity = fields.get("label"), fields.get("identity")
    if label is not None:
        if type(label) is not int or not 0 <= label < 10**18:
            raise DataError(f'{where} says "label": {label!r}, and a label is a whole number from 0 on')
        return label
    if identity is not None and type(identity) not in (int, str):
        raise DataError(f'{where} says "identity": {identity!r}, and an identity is a name')
    if len(str(identity)) > LONGEST_NAME:
        raise DataError(f"{where} has a name of {len(str(identity))} characters; use at most {LONGEST_NAME}")
    return None if identity is None else str(identity)
