"""Licences of assets: shown at first use, listed on request, recorded in every run's report."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rich.console import Console
from rich.text import Text

from facedistill.assets.card import AssetCard


def licence_record(card: AssetCard) -> dict[str, str]:
    """The licence of a card as a run folder and a report record it: asset, licence, note, origin."""
    return {"asset": card.name, "licence": card.licence, "note": card.licence_note, "origin": card.origin}


def licence_line(card: AssetCard) -> str:
    """The licence as one line of text."""
    rest = " ".join(part.rstrip(".") + "." for part in (card.licence_note, card.origin) if part)
    return f"{card.name}: {card.licence.rstrip('.')}. {rest}".rstrip()


def show_licence_once(card: AssetCard, cache: Path) -> bool:
    """Prints the licence to stderr unless the same text was shown before; returns whether it was printed.

    The cache records it. If the cache cannot be written, the licence is shown again.
    """
    mark, line = cache / f"{card.name}.licence-shown", licence_line(card)
    if mark.is_file() and mark.read_text(encoding="utf-8") == line:
        return False
    Console(stderr=True).print(Text.assemble(("licence of ", "bold"), line), soft_wrap=True)
    with contextlib.suppress(OSError):
        mark.write_text(line, encoding="utf-8")
    return True
