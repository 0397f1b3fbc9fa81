"""The user's cache of assets: each is fetched, verified and converted once."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facedistill.assets.card import AssetCard
from facedistill.assets.card_reader import read_card
from facedistill.assets.converted import convert_members, problem, source_of
from facedistill.assets.fetch import fetch_members
from facedistill.assets.licences import show_licence_once
from facedistill.errors import AssetError, reason
from facedistill.system.files import move_into_place
from facedistill.system.locks import one_at_a_time


def cache_dir() -> Path:
    """`$FACEDISTILL_CACHE`, else `$XDG_CACHE_HOME/facedistill`, else `~/.cache/facedistill`."""
    if own := os.environ.get("FACEDISTILL_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "facedistill"


def cached_path(card: AssetCard) -> Path:
    """Path of the asset in the cache; its name has a hash of the members and the converter."""
    parts = [*(f"{member.name}={member.sha256}" for member in card.members), card.convert]
    if card.convert and (source := source_of(card)):
        parts.append(hashlib.sha256(source.encode()).hexdigest())
    key = hashlib.sha256("\n".join([*parts, str(card.convert_version)]).encode()).hexdigest()[:8]
    suffix = ".safetensors" if card.convert else Path(card.members[0].name).suffix
    return cache_dir() / f"{card.name}-{key}{suffix}"


def obtain(
    name_or_card: str | Path | AssetCard,
    *,
    source: str | None = None,
    quiet: bool = False,
    thorough: bool = False,
) -> Path:
    """The asset's file in the cache; fetches, verifies and converts it first if it is missing.

    Two processes that call this at the same time do the work once. No partial file remains after an error.

    Args:
        name_or_card: A card, its name, or the path of a card's yaml.
        source: `file:/path` of the archive or member, in place of the card's own source; the environment
            variable `FACEDISTILL_ASSET_<NAME>` does the same. The hashes are checked as well.
        quiet: Whether to draw no progress and show no licence.
        thorough: Whether to hash every tensor of the cached file as well; see `problem`.

    Returns:
        `<cache>/<name>-<sha8>.safetensors`, or the raw member if the card has no converter.

    Raises:
        AssetError: If anything fails.
    """
    card = name_or_card if isinstance(name_or_card, AssetCard) else read_card(name_or_card)
    path = cached_path(card)
    with _file_problems(card):
        if problem(card, path, thorough=thorough) is not None:
            _make(card, path, source, quiet, thorough)
        if not quiet:
            show_licence_once(card, path.parent)
    return path


def _make(card: AssetCard, path: Path, source: str | None, quiet: bool, thorough: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(path.parent / f".{card.name}.lock"):
        if (wrong := problem(card, path, thorough=thorough)) is None:  # another process was faster
            return
        if path.exists() and not quiet:
            print(f"asset {card.name}: {path} {wrong}; obtaining it again", file=sys.stderr)
        for stale in path.parent.glob(
            f".{card.name}.work-*"
        ):  # of a process that was killed; we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{card.name}.work-", dir=path.parent) as folder:
            work = Path(folder)
            members = fetch_members(card, work, path.parent, source=source, quiet=quiet)
            made = (
                convert_members(card, members, work / "made")
                if card.convert
                else next(iter(members.values()))
            )
            move_into_place(made, path)


@contextmanager
def _file_problems(card: AssetCard) -> Iterator[None]:
    """Turns errors of the file system into one sentence."""
    try:
        yield
    except OSError as error:
        where = f"asset {card.name}: cache folder {cache_dir()}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f"free about {3 * card.size_mb:.0f} MB"
            problem = f"is on a full disk; {needed}, or set FACEDISTILL_CACHE to another disk"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            problem = "cannot be written; set FACEDISTILL_CACHE to a folder that you may write to"
        else:
            problem = f"cannot be used ({reason(error)}); set FACEDISTILL_CACHE to another folder"
        raise AssetError(f"{where} {problem}") from error
