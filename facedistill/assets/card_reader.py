"""Reads and checks asset cards.

Reading a card uses neither the network nor code of the packages that contain weights.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from facedistill.assets.card import AssetCard, Member
from facedistill.errors import AssetError, reason
from facedistill.system.paths import config_dir

_NEEDS = {
    "package": ("index", "package", "version", "archive_sha256"),
    "hub": ("repo", "filename", "revision"),
    "url": ("url",),
    "file": ("file",),
}
_ANY_SOURCE_KEYS = frozenset(key for keys in _NEEDS.values() for key in keys) - {"archive_sha256"}
_parsed = lru_cache(maxsize=64)(yaml.safe_load)  # by the text: planning many runs reads the same cards
_FORMS = {
    "name": (r"[a-z0-9][a-z0-9_.-]*", "lower-case letters, digits, '_', '-' and '.'"),
    "source": (r"package|hub|url|file", "one of package, hub, url, file"),
    "index": (r"pypi|npm", "pypi or npm"),
    "package": (r"(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*", "a package name"),
    "version": (r"[0-9A-Za-z][0-9A-Za-z.+!-]*", "one exact version"),
    "archive_sha256": (r"[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
    "sha256": (r"[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
    "url": (r"https?://\S+", "an http or https address"),
    "convert": (r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", "the dotted path of a function"),
}


def available_cards() -> dict[str, Path]:
    """Name and file of every card that the package ships, by name."""
    return {path.stem: path for path in sorted((config_dir() / "asset").glob("*.yaml"))}


def read_card(name_or_path: str | Path) -> AssetCard:
    """Reads and checks a card, given its name or the path of a yaml file.

    Raises:
        AssetError: If there is no such card, or a key of it is unknown, missing or of the wrong form.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text).expanduser()
    else:
        cards = available_cards()
        if text not in cards:
            hint = _did_you_mean(text, list(cards)) or f"; known: {', '.join(cards) or 'none'}"
            raise AssetError(f"no asset card is named {text!r}{hint}")
        path = cards[text]
    where = f"asset card {path}"
    try:
        loaded = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AssetError(f"{where}: cannot be read ({reason(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(getattr(error, "problem", None) or "not text").split())
        raise AssetError(f"{where}: is not valid yaml ({problem})") from error
    card = _build(loaded, where)
    if card.name != path.stem:
        raise AssetError(f"{where}: name is {card.name!r}; it must be the file's own name, {path.stem!r}")
    if card.file:
        local = (path.resolve().parent / Path(card.file).expanduser()).resolve()
        card = replace(card, file=str(local))
    return card


def _build(loaded: Any, where: str) -> AssetCard:
    if not isinstance(loaded, Mapping):
        raise AssetError(f"{where}: must be a mapping of keys, got {type(loaded).__name__}")
    known = {f.name: f for f in fields(AssetCard)}
    values: dict[str, Any] = {}
    for key, value in loaded.items():
        if key not in known:
            raise AssetError(f"{where}: unknown key {key!r}{_did_you_mean(str(key), list(known))}")
        values[key] = _members(value, where) if key == "members" else _scalar(key, value, where)
    for key, spec in known.items():
        if key not in values and spec.default is MISSING:
            raise AssetError(f"{where}: key {key!r} is missing")
    card = AssetCard(**values)
    _check_source(card, values, where)
    if not card.convert and len(card.members) > 1:
        raise AssetError(f"{where}: has {len(card.members)} members, so it needs a 'convert' that joins them")
    return card


def _check_source(card: AssetCard, given: Mapping[str, Any], where: str) -> None:
    needed = _NEEDS[card.source]
    for key in needed:
        if not getattr(card, key):
            raise AssetError(f"{where}: source {card.source} needs the key {key!r}")
    for key in _ANY_SOURCE_KEYS & given.keys():
        if key not in needed:
            raise AssetError(f"{where}: key {key!r} has no meaning with source {card.source}; remove it")


def _scalar(key: str, value: Any, where: str) -> Any:
    if key == "convert_version":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise AssetError(f"{where}: {key} must be a whole number from 1, got {value!r}")
        return value
    if key == "size_mb":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise AssetError(f"{where}: {key} must be a number of megabytes above 0, got {value!r}")
        return float(value)
    if not isinstance(value, str) or not value.strip():
        raise AssetError(f"{where}: {key} must be text, got {value!r}; put it in quotes")
    if key in _FORMS and not re.fullmatch(_FORMS[key][0], value):
        raise AssetError(f"{where}: {key} must be {_FORMS[key][1]}, got {value!r}")
    return value.strip()


def _members(value: Any, where: str) -> tuple[Member, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise AssetError(f"{where}: members must be a list of {{path, sha256}}, got {value!r}")
    members = []
    for item in value:
        if not isinstance(item, Mapping) or set(item) != {"path", "sha256"}:
            raise AssetError(f"{where}: each of members must have exactly path and sha256, got {item!r}")
        path = _scalar("path", item["path"], where)
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
            raise AssetError(f"{where}: member path {path!r} leaves the archive; name a file inside it")
        members.append(Member(path, _scalar("sha256", item["sha256"], where)))
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise AssetError(
            f"{where}: two members share a base file name; a converter could not tell them apart"
        )
    return tuple(members)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
