"""`facedistill assets`: list, fetch, verify, locate, and the licences."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from facedistill.assets.card import AssetCard
from facedistill.assets.card_reader import available_cards, read_card
from facedistill.assets.converted import problem
from facedistill.assets.licences import licence_line
from facedistill.assets.store import cache_dir, cached_path, obtain
from facedistill.errors import AssetError


def main(argv: Sequence[str]) -> int:
    """Runs `facedistill assets …`.

    Args:
        argv: The words after `assets`.

    Returns:
        0, or 1 when `verify` found a damaged file.

    Raises:
        UserError: On a user's mistake.
    """
    options = _parser().parse_args(list(argv))
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill assets", description="Weights that come from elsewhere."
    )
    parser.set_defaults(run=_list)
    verbs = parser.add_subparsers(metavar="VERB")
    verbs.add_parser("list", help="every asset, and whether it is in the cache").set_defaults(run=_list)
    fetch = verbs.add_parser("fetch", help="obtain assets into the cache")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a name from the list, a card's path, or all")
    fetch.add_argument(
        "--source", metavar="file:PATH", help="a local archive or member in place of a download"
    )
    fetch.add_argument("--quiet", action="store_true", help="no progress and no licence")
    fetch.set_defaults(run=_fetch)
    verify = verbs.add_parser("verify", help="hash what is in the cache again")
    verify.add_argument("names", nargs="*", metavar="NAME", help="all that are in the cache when left out")
    verify.set_defaults(run=_verify)
    path = verbs.add_parser("path", help="where an asset lies in the cache")
    path.add_argument("name", metavar="NAME")
    path.set_defaults(run=_path)
    verbs.add_parser("licences", help="under which terms each asset stands").set_defaults(run=_licences)
    return parser


def _cards(names: Sequence[str]) -> list[AssetCard]:
    return [read_card(name) for name in (names or available_cards())]


def _list(options: argparse.Namespace) -> int:
    table = Table("asset", "in cache", "size, MB", "from", "licence")
    for card in _cards([]):
        wrong = problem(card, cached_path(card))
        state = {None: "yes", "is not in the cache": "no"}.get(wrong, "damaged")
        origin = {"package": f"{card.index} {card.package} {card.version}", "hub": card.repo}.get(card.source)
        table.add_row(card.name, state, f"{card.size_mb:.1f}", origin or card.source, card.licence)
    console = Console()
    console.print(table)
    console.print(f"cache: {cache_dir()}", soft_wrap=True, highlight=False)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    names = list(available_cards()) if options.names == ["all"] else options.names
    if options.source and len(names) > 1:
        raise AssetError(
            f"--source names one file, but {len(names)} assets are asked for; fetch them one by one"
        )
    for card in _cards(names):
        print(obtain(card, source=options.source, quiet=options.quiet, thorough=True))
    return 0


def _verify(options: argparse.Namespace) -> int:
    damaged = 0
    for card in _cards(options.names):
        path = cached_path(card)
        if not path.is_file() and not options.names:
            continue
        wrong = problem(card, path, thorough=True)
        damaged += wrong is not None
        state = f" {wrong}; run `facedistill assets fetch {card.name}`" if wrong else " is intact"
        print(f"asset {card.name}: {path}{state}")
    return 1 if damaged else 0


def _path(options: argparse.Namespace) -> int:
    card = read_card(options.name)
    path = cached_path(card)
    if wrong := problem(card, path):
        raise AssetError(f"asset {card.name}: {path} {wrong}; run `facedistill assets fetch {card.name}`")
    print(path)
    return 0


def _licences(options: argparse.Namespace) -> int:
    for card in _cards([]):
        print(licence_line(card))
    return 0
