"""The type and the range of every numeric key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.errors import ConfigError


@dataclass(frozen=True)
class Numbers:
    """Numbers that a key admits.

    Attributes:
        range: As a sentence names it: "> 0", ">= 0", or an interval such as "in [0, 1)".
        whole: Whether they are integers.
    """

    range: str
    whole: bool = False

    def problem(self, key: str, value: Any) -> str | None:
        """A sentence on a value that is not admitted."""
        kind = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return f"{key.removesuffix('[]')}: expected {kind} {self.range}, got {value!r}"
        if self.whole and abs(value) >= _TOO_LARGE:
            return f"{key.removesuffix('[]')}={value}: must be {self.range}, and below 1e15"
        return None if self._holds(value) else f"{key.removesuffix('[]')}={value}: must be {self.range}"

    def _holds(self, value: float) -> bool:
        if self.range in ("> 0", ">= 0"):
            return math.isfinite(value) and (value > 0 or (value == 0 and self.range == ">= 0"))
        opening, low, high, closing = _INTERVAL.fullmatch(self.range).groups()  # type: ignore[union-attr]
        above = value >= float(low) if opening == "[" else value > float(low)
        return above and (value <= float(high) if closing == "]" else value < float(high))


_TOO_LARGE = 10**15
_INTERVAL = re.compile(r"in ([\[(])(\S+), (\S+)([\])])")
_COUNT = Numbers("> 0", whole=True)
_COUNT_OR_NONE = Numbers(">= 0", whole=True)
_SEED = Numbers(f"in [0, {2**32 - 1}]", whole=True)
_POSITIVE = Numbers("> 0")
_NOT_NEGATIVE = Numbers(">= 0")
_FRACTION = Numbers("in [0, 1]")
_SHARE = Numbers("in (0, 1]")
_BELOW_ONE = Numbers("in [0, 1)")
_BETWEEN = Numbers("in (0, 1)")
_COSINE = Numbers("in [-1, 1]")
_PROBABILITIES = (
    "flip", "gray", "squeeze_probability", "side_light", "occlusion", "side_occlusion", "blur", "low_resolution", "noise",
    "jpeg", "frame",
)  # fmt: skip
# Patterns of whole dotted keys, `*` for any beginning, `[]` for the items of a list; the first that fits holds.
_RULES: tuple[tuple[Numbers, str], ...] = (
    (_SEED, "seed *.seed *.sampler_seed"),
    (
        _COUNT,
        "images per_shard *images_per_identity *.identities *.batch_size *.faces *.pool_images *.max_tries",
    ),
    (_COUNT, "*.embedding_dim *.size_px *.sub_centers *.micro_batch *_every_images *.every_images"),
    (
        _COUNT,
        "*.log_every_steps *.balanced.images launcher.slots launcher.jobs_per_gpu launcher.nodes launcher.cpus launcher.max_jobs",
    ),
    (
        _COUNT,
        "launcher.time_min sweep.trials method.dim method.num_negatives method.num_impostors method.size",
    ),
    (_COUNT, "method.num_relations method.list_length method.step"),
    (
        _COUNT_OR_NONE,
        "*.num_workers *.held_out *.replay *.num_pairs *.resamples launcher.gpus launcher.restarts sweep.startup_trials",
    ),
    (_COUNT_OR_NONE, "method.ramp_steps method.impostor_queue method.bank_size method.orders[]"),
    (Numbers("in [2, 10000]", whole=True), "method.nodes"),
    (Numbers("in [1, 100]", whole=True), "quality *.jpeg_quality[]"),
    (
        _POSITIVE,
        "optimizer.lr optimizer.eps *.temperature head.scale head.head.scale method.scale *.input_spec.std",
    ),
    (
        _POSITIVE,
        "*synthetic.spread head.concentration head.norm_range[] method.power method.width launcher.memory_gb scheduler.gamma "
        "launcher.copy_every_s",
    ),
    (_BELOW_ONE, "optimizer.momentum method.momentum optimizer.betas[]"),
    (
        _FRACTION,
        "optimizer.dampening head.momentum head.head.momentum scheduler.warmup scheduler.floor method.ramp method.meet_at",
    ),
    (_FRACTION, "method.return_at method.mass *.accuracy.value"),
    *((_FRACTION, f"*.augment.{name}") for name in _PROBABILITIES),
    (_SHARE, "data.source.yaw_share head.sample_rate scheduler.at[]"),
    (_BETWEEN, "data.source.share method.fars[] synthetic.shrink"),
    (_COSINE, "*.min_teacher_cosine *.max_identity_cosine"),
    (
        _NOT_NEGATIVE,
        "*weight *_decay *.rho *_pairs.spread *.init_std *.lambda_ method.alpha method.beta method.gamma",
    ),
    (
        _NOT_NEGATIVE,
        "teacher.weights.* method.tolerance method.reach *margin *margin_rad *margin_cos *margin_range_rad[]",
    ),
    (_NOT_NEGATIVE, "data.source.augment.scale data.source.augment.rotation_deg data.source.augment.shift"),
)
_OPTIONS = [
    (numbers, re.compile("|".join(re.escape(one).replace(r"\*", ".*") for one in text.split())))
    for numbers, text in _RULES
]


@lru_cache(maxsize=4096)
def numbers_at(key: str) -> Numbers | None:
    """What a dotted key admits; None where it is no number, or any number.

    >>> numbers_at("optimizer.lr").range
    '> 0'
    """
    return next((numbers for numbers, pattern in _OPTIONS if pattern.fullmatch(key)), None)


def problems(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each number of a resolved configuration that is of the wrong type or out of range."""
    found, foreign = [], [group for group in ("backbone", "head", "method") if not _is_ours(config, group)]
    for key, value in _values(config):
        admitted = None if key.partition(".")[0] in foreign else numbers_at(key)
        if admitted is not None and value is not None:
            found.append(admitted.problem(key, value))
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(f"{key}={value}: must be a finite number")
    return [problem for problem in found if problem]


def demand_numbers(config: DictConfig) -> None:
    """Refuses numbers of the wrong type or out of range.

    Raises:
        ConfigError: If there is one.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    if found := problems(plain):
        raise ConfigError("\n".join(found))


def with_whole_numbers(config: DictConfig) -> DictConfig:
    """The same configuration in which `images=1e4` is 10000, as wherever a whole number is expected."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in _values(plain):
        admitted = numbers_at(key)
        whole = admitted is not None and admitted.whole and not key.endswith("[]")
        if whole and isinstance(value, float) and value.is_integer():
            OmegaConf.update(config, key, int(value))
    return config


def _is_ours(config: Mapping[str, Any], group: str) -> bool:
    """Whether the class of a group is the package's; names of arguments mean something else in a user's own."""
    node = config.get(group)
    return isinstance(node, Mapping) and str(node.get("_target_")).startswith("facedistill.")


def _values(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key; a list or a dictionary is one where a number belongs."""
    if isinstance(node, Mapping) and numbers_at(key) is None:
        for name, child in node.items():
            yield from _values(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and numbers_at(key) is None:
        for child in node:
            yield from _values(child, f"{key}[]")
    else:
        yield key, node
