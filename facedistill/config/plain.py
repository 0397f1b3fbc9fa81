"""A configuration as plain containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def select(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None if it is absent.

    >>> select({"data": {"batch_size": 8}}, "data.batch_size")
    8
    """
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
