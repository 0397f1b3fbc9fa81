"""The jobs of `-m`: every combination of the values that overrides list."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from facedistill.config.overrides import quoted, unreadable
from facedistill.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """Every combination of the listed values; `sweep=grid`, which has no settings."""


def expand(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Expands `a=1,2 b=range(3) c=glob(*)` into plain lists of overrides, in the order of Hydra's own sweeper.

    Raises:
        ConfigError: If an override cannot be read, or asks for one of Hydra's launchers or sweepers, which run
            every job in one process.
    """
    try:
        overrides = OverridesParser.create().parse_overrides([quoted(text) for text in arguments])
    except OverrideParseException as error:
        raise ConfigError(unreadable(str(error.override))) from error
    choices = []
    for override in overrides:
        key = override.get_key_element()
        if key.lstrip("+~").startswith(("hydra/launcher", "hydra/sweeper")):
            raise ConfigError(
                f"{override.input_line}: Hydra's launchers train different ranks on different configurations; "
                "leave it out, -m starts every job in a process tree of its own"
            )
        if not override.is_sweep_override():
            choices.append([str(override.input_line)])
            continue
        try:
            values = list(override.sweep_string_iterator())
        except (HydraException, NotImplementedError) as error:
            raise ConfigError(f"{override.input_line}: cannot be swept over; list the values") from error
        choices.append([f"{key}={value}" for value in values])
    return list(itertools.product(*choices))
