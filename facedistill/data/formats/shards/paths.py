"""Which shards a folder, a file or a pattern names."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from facedistill.errors import DataError


def shard_paths(path: str | Path) -> list[Path]:
    """The shards that a folder, a file or a pattern with `{000..123}`, `{a,b}`, `*`, `?` names, in order.

    Raises:
        DataError: If there is none, or one that the pattern names is missing.
    """
    if Path(path).is_dir():
        found = sorted(Path(path).glob("*.tar"))
        if not found:
            raise DataError(f"{path}: holds no .tar file; give the folder of the shards")
        return found
    if Path(path).exists():
        return [Path(path)]
    named: list[Path] = []
    for one in braces(str(path)):
        matches = sorted(Path(match) for match in glob.glob(one)) if glob.has_magic(one) else [Path(one)]
        if not matches or not matches[0].exists():
            raise DataError(
                f"{one}: is not there; give .tar shards, their folder or a pattern of existing ones"
            )
        named += matches
    return named


def braces(pattern: str) -> Iterator[str]:
    """The names that a pattern with `{000..123}` or `{a,b}` stands for."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        yield pattern
        return
    span = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", found[1])
    if span:
        first, last = int(span[1]), int(span[2])
        choices: Sequence[str] = [f"{n:0{len(span[1])}d}" for n in range(first, last + 1)]
        if not choices:
            raise DataError(f"{pattern}: {{{found[1]}}} names nothing; put the smaller number first")
    else:
        choices = found[1].split(",")
    for choice in choices:
        yield from braces(pattern[: found.start()] + choice + pattern[found.end() :])
