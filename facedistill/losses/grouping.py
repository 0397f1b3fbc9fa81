"""Which identities form GKD's primary group: thresholds on logits, found by counting, without a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from facedistill.distributed.collectives import gather_constant
from facedistill.errors import ConfigError

GroupingRule = Literal["top_n", "batch_mass", "sample_mass"]
Network = Literal["student", "teacher"]
_ELEMENTS_AT_ONCE = {"cpu": 2**20}  # a working set that stays in the CPU's cache
_ELEMENTS_AT_ONCE_ELSEWHERE = 2**24


class Alone:
    """All K identities are in this process: what partial statistics are merged with is nothing."""

    first = 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over the shards."""
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Maximum over the shards."""
        return values

    def batch_probabilities(self, probabilities: Tensor, num_images: int) -> tuple[Tensor, Tensor]:
        """Probability mass per identity, (K,), and number of images, (1,), of the global batch."""
        count = torch.full_like(probabilities[:1], num_images)
        return gather_constant(probabilities[None]).sum(0), gather_constant(count).sum(0, keepdim=True)


@dataclass(frozen=True)
class Grouping:
    """How GKD's primary group is chosen.

    The image's own identity ranks first, the others follow by their logit, and the group is the shortest head
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
    ranking: Tensor, labels: Tensor, grouping: Grouping, temperature: float, across: Alone | None = None
) -> Tensor:
    """The logit from which on an identity is in the primary group; the label is in it whatever its logit.

    Args:
        ranking: (N, K) logits that rank, of any floating dtype; a shard's columns with `across`.
        labels: (N,) identity index.
        grouping: The rule.
        temperature: What "sample_mass" softens with.
        across: How the shards of the identities are merged; None where there is one.

    Returns:
        (N,) thresholds, float32 or float64; -inf where all identities are in, +inf where only the label is.
    """
    across = across or Alone()
    size: int | Tensor = grouping.size
    if grouping.rule == "batch_mass":
        size = _batch_size_of_group(ranking, grouping, across)
    found = []
    for rows in row_blocks(ranking) if type(across) is Alone else [slice(None)]:
        block = widened(ranking[rows])
        if grouping.rule == "sample_mass":
            enough = _holds_mass(block, labels[rows], grouping.mass, temperature, across)
        else:
            enough = _holds_count(block, labels[rows], size, across)
        found.append(_highest_threshold(enough, block[:, 0]))
    return torch.cat(found)


def row_blocks(logits: Tensor) -> Iterator[slice]:
    """Slices of rows that are worked on together, so that temporaries stay small."""
    elements = _ELEMENTS_AT_ONCE.get(logits.device.type, _ELEMENTS_AT_ONCE_ELSEWHERE)
    rows = max(1, elements // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def widened(block: Tensor) -> Tensor:
    """float16 and bfloat16 as float32."""
    return block if block.dtype.itemsize >= 4 else block.float()


def put_at_label(block: Tensor, labels: Tensor, first: int, value: float) -> Tensor:
    """Writes `value` at each row's label, in place, where these columns (from identity `first` on) have it."""
    column = (labels - first)[:, None]
    own = (column >= 0) & (column < block.shape[1])
    column = column.clamp(0, block.shape[1] - 1)
    return block.scatter_(1, column, torch.where(own, value, block.gather(1, column)))


def _holds_count(
    block: Tensor, labels: Tensor, size: int | Tensor, across: Alone
) -> Callable[[Tensor], Tensor]:
    others = put_at_label(block.clone(), labels, across.first, -torch.inf)
    above = torch.empty_like(others)

    def enough(threshold: Tensor) -> Tensor:
        return across.total(torch.ge(others, threshold[:, None], out=above).sum(1)) >= size - 1

    return enough


def _holds_mass(
    block: Tensor, labels: Tensor, mass: float, temperature: float, across: Alone
) -> Callable[[Tensor], Tensor]:
    softened = block / temperature
    weights = softened.sub_(across.largest(softened.amax(1))[:, None]).exp_()
    total = across.total(weights.sum(1))
    put_at_label(weights, labels, across.first, 0.0)
    wanted = mass * total - (total - across.total(weights.sum(1)))
    above = torch.empty_like(weights)

    def enough(threshold: Tensor) -> Tensor:
        return across.total(torch.ge(block, threshold[:, None], out=above).mul_(weights).sum(1)) >= wanted

    return enough


def _batch_size_of_group(ranking: Tensor, grouping: Grouping, across: Alone) -> Tensor:
    """() the n of "batch_mass", on the device."""
    mass = torch.zeros_like(ranking[0], dtype=widened(ranking[:1]).dtype)
    for rows in row_blocks(ranking) if type(across) is Alone else [slice(None)]:
        block = widened(ranking[rows])
        weights = (block - across.largest(block.amax(1))[:, None]).exp_()
        mass += (weights / across.total(weights.sum(1))[:, None]).sum(0)
    mass, count = across.batch_probabilities(mass, len(ranking))
    reached = mass.sort(descending=True).values.cumsum(0)[:: grouping.step] >= grouping.mass * count
    return 1 + grouping.step * (~reached).sum()


def _highest_threshold(enough: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """(N,) highest value of `like`'s dtype at which `enough` is true, -inf where it is nowhere.

    `enough` is true below some value and false above. Bisects the numbers in the order of their bit patterns,
    one question per bit, always the same number of them, so that nothing waits for the device.
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
    """Integers in the same order as the floating-point numbers (IEEE 754)."""
    pattern = values.view(integer)
    return pattern ^ ((pattern >> (pattern.element_size() * 8 - 1)) & torch.iinfo(integer).max)


def _value(order: Tensor, dtype: torch.dtype) -> Tensor:
    pattern = order ^ ((order >> (order.element_size() * 8 - 1)) & torch.iinfo(order.dtype).max)
    return pattern.view(dtype)
