"""The asset card of a file that the user brings: `teacher.file=/path/backbone.pth`, `generator.file=/path/G.pkl`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from facedistill.assets.archive import sha256_of
from facedistill.assets.card import MEBI, AssetCard, Member
from facedistill.assets.card_reader import read_card
from facedistill.errors import ConfigError

_OWN_KEYS = ("file", "sha256", "convert", "licence")


def card_of(node: Mapping[str, Any], group: str) -> AssetCard:
    """The card of `<group>.asset`, or one made of `<group>.{name, file, sha256, convert, licence}`.

    Args:
        node: The configuration's `<group>`.
        group: "teacher" or "generator", for the messages.

    Raises:
        ConfigError: If neither or both are given, the file does not exist, or sha256 is not a hash.
        AssetError: If the named card cannot be read.
    """
    if node.get("asset"):
        if given := next((key for key in _OWN_KEYS if node.get(key)), None):
            raise ConfigError(f"{group}.{given}: has no meaning with {group}.asset={node['asset']}; give one")
        return read_card(node["asset"])
    name = node.get("name") or group
    if not node.get("file"):
        raise ConfigError(
            f"{group}.file: {name} needs the path of your own weights; give {group}.file=/path/to/file"
        )
    path = Path(node["file"]).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"{group}.file={node['file']}: there is no such file")
    sha256 = node.get("sha256") or _said_hash(group, path, path.stat().st_mtime_ns)
    if not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ConfigError(f"{group}.sha256: expected 64 lower-case hexadecimal digits, got {sha256!r}")
    return AssetCard(
        name=name,
        source="file",
        members=(Member(path.name, str(sha256)),),
        licence=node.get("licence") or "not stated by its owner",
        origin=f"the user's own file {path.name}",
        size_mb=max(1.0, path.stat().st_size / MEBI),
        convert=node["convert"] or "",
        file=str(path),
    )


@lru_cache
def _said_hash(group: str, path: Path, modified_ns: int) -> str:
    sha256 = sha256_of(path)
    print(f"{group}: {path.name} has sha256 {sha256}; pin it with {group}.sha256={sha256}", file=sys.stderr)
    return sha256
