"""Finds which identities form GKD's primary group: thresholds on logits, by counting, without a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from facedistill.distributed.collectives import world_size
from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.losses.precision import at_least_float32

GroupingRule = Literal["top_n", "batch_mass", "sample_mass"]
Network = Literal["student", "teacher"]
_ELEMENTS_AT_ONCE = {"cpu": 2**20}  # a working set that stays in the CPU's cache
_ELEMENTS_AT_ONCE_ELSEWHERE = 2**24


@dataclass(frozen=True)
class Grouping:
    """How GKD's primary group is chosen.

    The image's own identity ranks first, the others follow by their logit, and the group is the shortest prefix
    of that list that is large enough:

    - "top_n": `size` identities (released `gkd.py`: 10,000).
    - "batch_mass": n identities, one n for the global batch: the smallest of 1, 1 + step, 1 + 2·step, ... whose
      n most probable identities hold `mass` of the batch's probability at temperature 1, summed over the images
      of all processes (released `gkd_adaptive.py`: 0.93, step 100).
    - "sample_mass": as many as hold `mass` of the image's own softened probability (the paper's abstract).

    Identities tied with the group's last one are in it too, so that the group does not depend on their order.
    The released code takes some of them; otherwise the groups are the same.

    Args:
        rule: One of the three.
        size: Identities in a "top_n" group, >= 1; K or more leaves no secondary group.
        mass: Probability that the group has to hold, in (0, 1].
        step: Step of the grid of "batch_mass", >= 1.
        ranked_by: Whose logits rank; the released code has "student".

    Raises:
        ConfigError: If a value is out of range.
    """

    rule: GroupingRule = "top_n"
    size: int = 10_000
    mass: float = 0.93
    step: int = 100
    ranked_by: Network = "student"

    def __post_init__(self) -> None:
        if self.rule not in get_args(GroupingRule):
            raise ConfigError(
                f"method.grouping: expected top_n, batch_mass or sample_mass, got {self.rule!r}"
            )
        if self.ranked_by not in get_args(Network):
            raise ConfigError(f"method.ranked_by: expected student or teacher, got {self.ranked_by!r}")
        if self.size < 1:
            raise ConfigError(f"method.size: expected at least 1, got {self.size}")
        if not 0 < self.mass <= 1:
            raise ConfigError(f"method.mass: expected a probability in (0, 1], got {self.mass}")
        if self.step < 1:
            raise ConfigError(f"method.step: expected at least 1, got {self.step}")


@torch.no_grad()
def group_thresholds(
    ranking: Tensor, columns: Tensor, grouping: Grouping, temperature: float, partition: Partition
) -> Tensor:
    """The lowest logit in the primary group; the label is in the group whatever its logit.

    Args:
        ranking: (N, K') logits that rank the identities of this process, any floating dtype.
        columns: (N,) column of the label, -1 where another process holds it.
        grouping: The rule.
        temperature: What "sample_mass" softens with.
        partition: Which identities the columns are.

    Returns:
        (N,) thresholds, float32 or float64; -inf where all identities are in, +inf where only the label is.
    """
    size: int | Tensor = grouping.size
    if grouping.rule == "batch_mass":
        size = _batch_size_of_group(ranking, grouping, partition)
    thresholds = []
    for rows in _row_blocks_of(ranking, partition):
        block = at_least_float32(ranking[rows])
        if grouping.rule == "sample_mass":
            enough = _holds_mass(block, columns[rows], grouping.mass, temperature, partition)
        else:
            enough = _holds_count(block, columns[rows], size, partition)
        thresholds.append(_highest_threshold(enough, block[:, 0]))
    return torch.cat(thresholds)


def row_blocks(logits: Tensor) -> Iterator[slice]:
    """Slices of rows that are processed together, so that temporaries stay small."""
    elements = _ELEMENTS_AT_ONCE.get(logits.device.type, _ELEMENTS_AT_ONCE_ELSEWHERE)
    rows = max(1, elements // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def _row_blocks_of(logits: Tensor, partition: Partition) -> Iterable[slice]:
    """`row_blocks`; all rows at once with several parts, whose number of blocks, and of exchanges, would differ."""
    return row_blocks(logits) if partition.is_whole else [slice(None)]


def put_at(block: Tensor, columns: Tensor, value: float) -> Tensor:
    """Writes `value` into the column of each row, in place, except where the column is -1."""
    here, safe = (columns >= 0)[:, None], columns.clamp(min=0)[:, None]
    return block.scatter_(1, safe, torch.where(here, value, block.gather(1, safe)))


def _holds_count(
    block: Tensor, columns: Tensor, size: int | Tensor, partition: Partition
) -> Callable[[Tensor], Tensor]:
    """Whether the label and the logits from a threshold (N,) on are at least `size` identities."""
    others = put_at(block.clone(), columns, -torch.inf)
    above = torch.empty_like(others)

    def enough(threshold: Tensor) -> Tensor:
        return partition.total(torch.ge(others, threshold[:, None], out=above).sum(1)) >= size - 1

    return enough


def _holds_mass(
    block: Tensor, columns: Tensor, mass: float, temperature: float, partition: Partition
) -> Callable[[Tensor], Tensor]:
    """Whether the label and the logits from a threshold (N,) on hold `mass` of the softened probability."""
    softened = block / temperature
    weights = softened.sub_(partition.largest(softened.amax(1))[:, None]).exp_()
    total = partition.total(weights.sum(1))
    put_at(weights, columns, 0.0)
    wanted = mass * total - (total - partition.total(weights.sum(1)))  # what the label leaves to the others
    above = torch.empty_like(weights)

    def enough(threshold: Tensor) -> Tensor:
        chosen = torch.ge(block, threshold[:, None], out=above).mul_(weights)
        return partition.total(chosen.sum(1)) >= wanted

    return enough


def _batch_size_of_group(ranking: Tensor, grouping: Grouping, partition: Partition) -> Tensor:
    """() the n of "batch_mass", on the device."""
    mass = torch.zeros_like(ranking[0], dtype=at_least_float32(ranking[:1]).dtype)
    for rows in _row_blocks_of(ranking, partition):
        block = at_least_float32(ranking[rows])
        weights = (block - partition.largest(block.amax(1))[:, None]).exp_()
        mass += (weights / partition.total(weights.sum(1))[:, None]).sum(0)
    mass = partition.batch_total(mass)
    count = len(ranking) * (world_size() if partition.is_whole else 1)  # images in the global batch
    reached = mass.sort(descending=True).values.cumsum(0)[:: grouping.step] >= grouping.mass * count
    return 1 + grouping.step * (~reached).sum()


def _highest_threshold(enough: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """(N,) highest value of `like`'s dtype at which `enough` is true, -inf where it is nowhere.

    `enough` is true up to some value and false above. IEEE 754 numbers of one sign are ordered like the integers with
    the same bits, so a bisection over integers finds the exact value in one question per bit. The number of questions
    is fixed, so the host never waits for the device.
    """
    integer, bits = (torch.int32, 32) if like.dtype == torch.float32 else (torch.int64, 64)
    highest = _order(torch.full_like(like, torch.inf), integer)
    lowest = _order(torch.full_like(like, -torch.inf), integer)
    for _ in range(bits):
        middle = (lowest | highest) - ((lowest ^ highest) >> 1)  # the mean, rounded up, without overflow
        is_enough = enough(_value(middle, like.dtype))
        lowest = torch.where(is_enough, middle, lowest)
        highest = torch.where(is_enough, highest, torch.maximum(middle - 1, lowest))
    return _value(lowest, like.dtype)


def _order(values: Tensor, integer: torch.dtype) -> Tensor:
    """Integers in the same order as the floating-point numbers.

    Positive numbers keep their bits. The bits of negative numbers grow with the magnitude, so all but the sign are
    inverted: `pattern >> 31` is -1 for them and 0 otherwise.
    """
    pattern = values.view(integer)
    return pattern ^ ((pattern >> (pattern.element_size() * 8 - 1)) & torch.iinfo(integer).max)


def _value(order: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `_order`: inverting the same bits again restores them."""
    pattern = order ^ ((order >> (order.element_size() * 8 - 1)) & torch.iinfo(order.dtype).max)
    return pattern.view(dtype)
