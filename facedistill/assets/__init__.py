"""Weights as data: described by a card, fetched with a hash, converted once into the user's cache."""

from facedistill.assets.card import AssetCard, Member
from facedistill.assets.card_reader import available_cards, read_card
from facedistill.assets.licences import licence_line, licence_record
from facedistill.assets.store import cache_dir, cached_path, obtain

__all__ = [
    "AssetCard",
    "Member",
    "available_cards",
    "cache_dir",
    "cached_path",
    "licence_line",
    "licence_record",
    "obtain",
    "read_card",
]
