"""The asset card of the configured teacher, whether it has one or the user brings the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facedistill.assets.card import AssetCard
from facedistill.assets.own_file import card_of


def teacher_card(node: Mapping[str, Any]) -> AssetCard:
    """The card of the configuration's `teacher`; see `facedistill.assets.own_file.card_of`."""
    return card_of(node, "teacher")
