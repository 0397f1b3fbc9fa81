"""Which images a generated set holds, and in which shard each of them is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError, DataError
from facedistill.models.fingerprint import network_fingerprint
from facedistill.models.synthetic_identities import Generator, SyntheticIdentities

_VERSION = 1
_MEASURED_IDENTITIES = 3000


def describe(
    generator: Generator,
    teacher: nn.Module,
    settings: SyntheticIdentities,
    images_per_identity: int,
    quality: int = 95,
) -> dict[str, Any]:
    """All that decides a set's content, as JSON."""
    for name, value, most in (
        ("images_per_identity", images_per_identity, 1 << 20),
        ("quality", quality, 100),
    ):
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError(f"{name}: must be a whole number within 1 and {most}, got {value}")
    assert isinstance(generator, nn.Module)
    return {
        "version": _VERSION,
        "generator": network_fingerprint(generator),
        "teacher": network_fingerprint(teacher),
        "synthetic": asdict(settings),
        "images_per_identity": images_per_identity,
        "quality": quality,
    }


@dataclass(frozen=True)
class SetPlan:
    """A set of K identities x M images in shards; shard t is a function of this plan and t.

    Attributes:
        made_of: Of `describe`.
        settings: What to make.
        images_per_identity: M.
        quality: Of the JPEG files, 1..100.
        per_shard: Images of each shard but the last.
    """

    made_of: Mapping[str, Any]
    settings: SyntheticIdentities
    images_per_identity: int
    quality: int
    per_shard: int

    def __post_init__(self) -> None:
        if not isinstance(self.per_shard, int) or self.per_shard < 1:
            raise ConfigError(f"per_shard: must be a whole number from 1, got {self.per_shard}")

    @property
    def images(self) -> int:
        """K·M"""
        return self.settings.identities * self.images_per_identity

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.per_shard)

    @property
    def layout(self) -> dict[str, Any]:
        """All that decides the bytes of each shard, as JSON."""
        return {**self.made_of, "per_shard": self.per_shard}

    @property
    def key(self) -> str:
        """A hash of the layout."""
        return hashlib.sha256(json.dumps(self.layout, sort_keys=True).encode()).hexdigest()[:16]

    def images_of(self, shard: int) -> Tensor:
        """(n,) numbers of the images of one shard; image i is image i % M of identity i // M."""
        start = shard * self.per_shard
        return torch.arange(start, min(start + self.per_shard, self.images))

    def measured(self, images: Tensor) -> Tensor:
        """(n,) whether the separation of the set is measured on these images: all of 3000 identities spread over it."""
        count = self.settings.identities
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[torch.linspace(0, count - 1, min(count, _MEASURED_IDENTITIES), dtype=torch.float64).long()] = (
            True
        )
        return chosen[images // self.images_per_identity]


def demand_same(wanted: Mapping[str, Any], there: object, where: str) -> None:
    """Refuses what was made of something else than `wanted`.

    Raises:
        DataError: With the settings that differ.
    """
    try:
        found = {**there, **there["synthetic"]}  # type: ignore[dict-item, index]
    except (KeyError, TypeError):
        raise DataError(f"{where}: is damaged; delete it, its images will be rendered again") from None
    flat = {**wanted, **wanted["synthetic"]}
    keys = [key for key, value in flat.items() if key != "synthetic" and found.get(key) != value]
    if keys:
        differs = ", ".join(f"{key} {_short(found.get(key))} instead of {_short(flat[key])}" for key in keys)
        raise DataError(f"{where}: holds another set ({differs}); name another folder or delete it")


def _short(value: object) -> str:
    return value[:8] if isinstance(value, str) else str(value)
