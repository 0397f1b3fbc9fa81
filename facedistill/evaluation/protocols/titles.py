"""What people call a protocol, and the customary order; read from the configuration alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

import yaml

from facedistill.system.paths import config_dir


@cache
def default_entries() -> dict[str, dict[str, Any]]:
    """`places` of `conf/evaluation/default.yaml` as written."""
    text = (config_dir() / "evaluation" / "default.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["places"])


def protocol_title(name: str, titles: Mapping[str, str] | None = None) -> str:
    """Published name of a protocol or one of its modes: "LFW", "IJB-B, N1D1F1"; its key if it has none."""
    if titles is None:
        titles = {key: entry.get("title", "") for key, entry in default_entries().items()}
    key = _place_of(name, titles)
    title = titles[key] if key else ""
    return f"{title}, {name.removeprefix(f'{key}_').upper()}" if title and key != name else title or name


def in_order(names: Iterable[str]) -> list[str]:
    """Protocols in the order of `conf/evaluation/default.yaml`, then the others by name."""
    order = {key: number for number, key in enumerate(default_entries())}
    return sorted(set(names), key=lambda name: (order.get(_place_of(name, order) or name, len(order)), name))


def _place_of(name: str, keys: Collection[str]) -> str | None:
    """The key of a protocol; results have one name per mode of IJB, `ijbb_n1d1f1`."""
    return name if name in keys else next((key for key in keys if name.startswith(f"{key}_")), None)
