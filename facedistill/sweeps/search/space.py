"""What a search may choose from: Hydra's grammar of overrides, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from facedistill.config.overrides import quoted
from facedistill.errors import ConfigError


@dataclass(frozen=True)
class Space:
    """Overrides that all trials share, and an Optuna distribution for each key that they differ in."""

    fixed: tuple[str, ...]
    distributions: Mapping[str, Any]

    def overrides(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The overrides of one trial."""
        return (*self.fixed, *(f"{key}={params[key]}" for key in self.distributions))


def read_space(arguments: Sequence[str]) -> Space:
    """Reads overrides: `a,b` and `choice(a,b)`, `interval(0.1,1)`, `tag(log,interval(1e-4,1e-2))`, `range(1,9,2)`.

    `int(interval(1,8))` is whole numbers.

    Raises:
        ConfigError: If nothing is to be chosen, or an interval is empty or reaches 0 on a logarithmic scale.
    """
    fixed, distributions = [], {}
    for override in OverridesParser.create().parse_overrides([quoted(text) for text in arguments]):
        if override.is_sweep_override():
            distributions[override.get_key_element()] = _distribution(override)
        else:
            fixed.append(str(override.input_line))
    if not distributions:
        raise ConfigError(
            "sweep=optuna: nothing is to be chosen; give intervals or choices, e.g. "
            "'optimizer.lr=tag(log,interval(1e-4,1e-2))' method=cosine,rkd"
        )
    return Space(tuple(fixed), distributions)


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep, text = override.value(), override.input_line
    if isinstance(sweep, IntervalSweep):
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None
        assert high is not None
        if low >= high or (log and low <= 0):
            raise ConfigError(
                f"{text}: wants a lower end below its upper end{', and above 0' if log else ''}"
            )
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(sweep, RangeSweep):
        numbers = list(sweep.range())
        if len(numbers) > 1 and all(isinstance(number, int) for number in numbers) and sweep.step > 0:
            return IntDistribution(numbers[0], numbers[-1], step=int(sweep.step))
        return CategoricalDistribution([str(number) for number in numbers])
    return CategoricalDistribution(list(override.sweep_string_iterator()))
