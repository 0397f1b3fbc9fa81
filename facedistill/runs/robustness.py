"""Accuracy of a run's student and teacher under each corruption of the faces, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from facedistill.data.augmentation.corruptions import CORRUPTIONS, VERSION, corrupt
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import PairsProtocol, Protocol
from facedistill.evaluation.protocols.find import Absent, find_protocol, search_dirs
from facedistill.evaluation.robustness import changed_protocols, some_pairs
from facedistill.runs.inputs import GENERATED, protocol_places

_LEAST_PAIRS = 40  # a genuine and an impostor pair in every fold, and something to fit a threshold on


@dataclass(frozen=True)
class Robustness:
    """`evaluation.robustness` of a configuration.

    Attributes:
        protocol: Where the pairs are from; a run without its files takes its generated pairs.
        pairs: Number of pairs at most, drawn evenly from every fold and both kinds; all if None.
        seed: Seed of the pairs and of the corruptions.
        corruptions: Names of `CORRUPTIONS`.

    Raises:
        ConfigError: If a value cannot be used.
    """

    protocol: str = "lfw"
    pairs: int | None = 1000
    seed: int = 20261124
    corruptions: list[str] = field(default_factory=lambda: list(CORRUPTIONS))

    def __post_init__(self) -> None:
        for name in self.corruptions:
            if name not in CORRUPTIONS:
                raise ConfigError(
                    f"evaluation.robustness.corruptions: {name!r} is unknown; known: {', '.join(CORRUPTIONS)}"
                )
        if self.pairs is not None and self.pairs < _LEAST_PAIRS:
            raise ConfigError(
                f"evaluation.robustness.pairs: must be {_LEAST_PAIRS} or more, or null for all, got {self.pairs}"
            )


def robustness_settings(evaluation: DictConfig) -> Robustness | None:
    """The settings in the `evaluation` part of a configuration; None if it measures no robustness, or no protocol at all.

    Raises:
        ConfigError: If a key is unknown or a value cannot be used.
    """
    node = evaluation.get("robustness")
    if node is None:
        return None
    known = Robustness.__dataclass_fields__
    if not isinstance(node, DictConfig):
        raise ConfigError(f"evaluation.robustness: expected keys ({', '.join(known)}) or null, got {node!r}")
    values: Mapping[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    if unknown := [key for key in values if key not in known]:
        raise ConfigError(f"evaluation.robustness.{unknown[0]}: unknown key; known: {', '.join(known)}")
    chosen = Robustness(**values)
    return None if evaluation.get("protocols") == [] else chosen


def corrupted_protocols(evaluation: DictConfig, opened: Sequence[Protocol]) -> dict[str, PairsProtocol]:
    """The chosen pairs as they are and under each corruption; empty if there is nothing to measure.

    Args:
        evaluation: The `evaluation` part of a configuration.
        opened: Protocols that are open already, the run's generated pairs among them if it has any.

    Raises:
        ConfigError: If the settings are wrong, or the protocol has no pairs of single faces.
        DataError: If the protocol's files are malformed.
    """
    settings = robustness_settings(evaluation)
    if settings is None or (protocol := _protocol(settings, evaluation, opened)) is None:
        return {}
    seed = settings.seed
    return changed_protocols(
        some_pairs(protocol, settings.pairs, seed),
        {
            name: (partial(_corrupt, name=name, seed=seed), f"{name}/{seed}/{VERSION}")
            for name in settings.corruptions
        },
    )


def _corrupt(images: Tensor, indices: Tensor, *, name: str, seed: int) -> Tensor:
    return corrupt(images, name, seed=seed, indices=indices)


def _protocol(
    settings: Robustness, evaluation: DictConfig, opened: Sequence[Protocol]
) -> PairsProtocol | None:
    """The open protocol, or the one from its files, or the generated pairs, or None."""
    by_name: dict[str, Protocol | Absent] = {one.name: one for one in opened}
    if settings.protocol not in by_name and settings.protocol != GENERATED:
        by_name[settings.protocol] = find_protocol(
            settings.protocol, search_dirs(evaluation.data_dir), protocol_places(evaluation)
        )
    found = by_name.get(settings.protocol)
    if found is None or isinstance(found, Absent):
        found = by_name.get(GENERATED)
    if found is not None and not isinstance(found, PairsProtocol):
        raise ConfigError(
            f"evaluation.robustness.protocol: {settings.protocol} has no pairs of single faces; name lfw, or another "
            "protocol with a list of pairs"
        )
    return found
