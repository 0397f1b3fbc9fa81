"""Forward and backward pass of the grouped divergences of `facedistill.losses.groups`, block by block of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from facedistill.distributed.partition import Partition
from facedistill.losses.grouping import Network, put_at, row_blocks
from facedistill.losses.precision import at_least_float32


class _Side(NamedTuple):
    """Sums of exp(z) of one network's softened logits z, per row, inside and outside the group.

    Each sum is kept as a pivot and a mass: log sum exp(z) = pivot + log(mass), with pivot about max z, so that no
    power overflows. An empty group has mass 0.
    """

    inside_pivot: Tensor
    inside_mass: Tensor
    outside_pivot: Tensor
    outside_mass: Tensor

    def powers(self, logits: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """exp(z - pivot), with the pivot of the group that the column is in."""
        pivot = inside * self.inside_pivot[:, None]
        return torch.sub(logits, pivot.addcmul_(outside, self.outside_pivot[:, None])).exp_()

    @property
    def log_odds(self) -> Tensor:
        """log(b / (1 - b)); +inf where nothing is outside."""
        inside = self.inside_pivot + self.inside_mass.log()
        return inside - self.outside_pivot - self.outside_mass.log()


class _Rows(NamedTuple):
    """Everything that the three terms and their gradient need from the K logits of each row."""

    student: _Side
    teacher: _Side
    inside_cross: Tensor  # sum over the group of exp(u - pivot) · (u - z), u and z the softened logits of teacher, student
    outside_cross: Tensor  # the same over the other identities


class GroupDivergences(torch.autograd.Function):
    """`facedistill.losses.groups.group_terms`: a pass over the logits for the sums, and another one for the gradient.

    The forward pass keeps (N,) sums only. The backward pass computes memberships and powers again, block by block.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, columns: Tensor, thresholds: Tensor,
        temperature: float, ranked_by: Network, partition: Partition,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        blocks = []
        for rows in row_blocks(student):
            z, u = at_least_float32(student[rows]), at_least_float32(teacher[rows])
            ranked = z if ranked_by == "student" else u
            inside, outside = _members(ranked, columns[rows], thresholds[rows])
            blocks.append(_statistics(z / temperature, u / temperature, inside, outside))
        merged = _merged(_concatenated(blocks), partition)
        ctx.save_for_backward(student, teacher, columns, thresholds, *merged.student, *merged.teacher)
        ctx.temperature, ctx.ranked_by = temperature, ranked_by
        return _divergences(merged)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """dL/dz = own powers · (a inside, b outside) - teacher's powers · (c inside, d outside), see `_coefficients`."""
        student, teacher, columns, thresholds, *sums = ctx.saved_tensors
        by_row = _coefficients(_Side(*sums[:4]), _Side(*sums[4:]), *upstream)
        gradient = torch.empty_like(student)
        for rows in row_blocks(student):
            # The same memberships as in the forward pass.
            z, u = at_least_float32(student[rows]), at_least_float32(teacher[rows])
            ranked = z if ctx.ranked_by == "student" else u
            inside, outside = _members(ranked, columns[rows], thresholds[rows])
            # exp(z - pivot) and exp(u - pivot), with the pivots that all parts agreed on.
            own = _Side(*(value[rows] for value in sums[:4])).powers(z / ctx.temperature, inside, outside)
            other = _Side(*(value[rows] for value in sums[4:])).powers(u / ctx.temperature, inside, outside)
            # Coefficients are for softened logits; the chain rule divides by the temperature.
            a, b, c, d = (value[rows, None] / ctx.temperature for value in by_row)
            own.mul_((inside * a).addcmul_(outside, b))
            gradient[rows] = own.addcmul_(other, (inside * c).addcmul_(outside, d), value=-1)
        return gradient, None, None, None, None, None, None


def _members(ranked: Tensor, columns: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """1 inside and 0 outside the group, and the reverse, as numbers."""
    inside = torch.ge(ranked, thresholds[:, None], out=torch.empty_like(ranked))
    put_at(inside, columns, 1.0)
    return inside, 1 - inside


def _statistics(student: Tensor, teacher: Tensor, inside: Tensor, outside: Tensor) -> _Rows:
    """The sums over the columns of this process, from softened logits and memberships (N, K')."""
    sides, powers = [], torch.empty(0)
    for logits in (student, teacher):
        # The maximum of each group, as max(z - lowest) + lowest: z - lowest >= 0, so the zeros that the mask puts in
        # the other group's columns cannot win. Rounding of the pivot does no harm, as the same pivot is added back.
        lowest = logits.amin(1, keepdim=True)
        above = logits - lowest
        pivots = [(above * mask).amax(1) + lowest[:, 0] for mask in (inside, outside)]
        one = torch.ones_like(pivots[0])
        powers = _Side(pivots[0], one, pivots[1], one).powers(logits, inside, outside)
        sides.append(_Side(pivots[0], (powers * inside).sum(1), pivots[1], (powers * outside).sum(1)))
    cross = powers.mul_(teacher - student)  # these powers are the teacher's, the last of the loop
    return _Rows(sides[0], sides[1], (cross * inside).sum(1), (cross * outside).sum(1))


def _concatenated(blocks: list[_Rows]) -> _Rows:
    def joined(sides: list[_Side]) -> _Side:
        return _Side(*(torch.cat(parts) for parts in zip(*sides, strict=True)))

    return _Rows(
        joined([block.student for block in blocks]),
        joined([block.teacher for block in blocks]),
        torch.cat([block.inside_cross for block in blocks]),
        torch.cat([block.outside_cross for block in blocks]),
    )


def _merged(local: _Rows, partition: Partition) -> _Rows:
    """The sums over all parts from those of each."""
    if partition.is_whole:
        return local

    def merge(pivot: Tensor, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Common pivot m, sum over parts of mass · exp(pivot - m), and this part's factor exp(pivot - m).

        A part without a column in the group has mass 0 and a meaningless pivot, which is left out of the maximum. If
        that is so in all parts, the pivot becomes 0 and the mass stays 0.
        """
        common = partition.largest(pivot.where(mass > 0, -torch.inf))
        common = common.where(common > -torch.inf, 0.0)
        factor = (pivot - common).exp().where(mass > 0, 0.0)
        return common, partition.total(mass * factor), factor

    student = (*merge(*local.student[:2])[:2], *merge(*local.student[2:])[:2])
    inside, outside = merge(*local.teacher[:2]), merge(*local.teacher[2:])
    return _Rows(
        _Side(*student),
        _Side(*inside[:2], *outside[:2]),
        partition.total(local.inside_cross * inside[2]),
        partition.total(local.outside_cross * outside[2]),
    )


def _divergences(rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms. With q the teacher's and p the student's probabilities within a group,

    KL(q ‖ p) = sum q · (u - z) + log sum exp(z) - log sum exp(u): cross / mass, and the two logarithms.
    binary is the same for the masses (b, 1 - b), with log b = logsigmoid(log odds) and log(1 - b) = logsigmoid(-log odds).
    """
    student, teacher = rows.student, rows.teacher
    zero = torch.zeros_like(rows.inside_cross)
    empty = teacher.outside_mass == 0

    own, other = student.log_odds, teacher.log_odds
    binary = other.sigmoid() * (F.logsigmoid(other) - F.logsigmoid(own))
    binary = binary + (-other).sigmoid() * (F.logsigmoid(-other) - F.logsigmoid(-own))
    primary = rows.inside_cross / teacher.inside_mass + _log_ratio(*student[:2], *teacher[:2])
    secondary = rows.outside_cross / teacher.outside_mass + _log_ratio(*student[2:], *teacher[2:])
    return torch.where(empty, zero, binary), primary, torch.where(empty, zero, secondary)


def _log_ratio(pivot: Tensor, mass: Tensor, other_pivot: Tensor, other_mass: Tensor) -> Tensor:
    return pivot + mass.log() - other_pivot - other_mass.log()


def _coefficients(
    student: _Side, teacher: _Side, binary: Tensor, primary: Tensor, secondary: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the powers are multiplied with: the student's inside and outside, the teacher's inside and outside.

    With p = powers / mass the probabilities within a group, z softened, the terms have the derivatives

        d binary / dz    = p_S · (b_S - b_T) inside, p_S · (b_T - b_S) outside
        d primary / dz   = p_S - p_T inside, 0 outside
        d secondary / dz = p_S - p_T outside, 0 inside

    `binary`, `primary` and `secondary` are the gradients (N,) of the loss with respect to the terms.
    """
    own, other = student.log_odds, teacher.log_odds
    # b_S - b_T; for b_S above one half as (1 - b_T) - (1 - b_S), the difference of two small numbers.
    excess = (own.sigmoid() - other.sigmoid()).where(own < 0, (-other).sigmoid() - (-own).sigmoid())
    empty = teacher.outside_mass == 0  # the group has all identities: binary and secondary are constant 0
    outside = [(1 / side.outside_mass).where(~empty, 0.0) for side in (student, teacher)]
    excess = (binary * excess).where(~empty, 0.0)
    return (
        (excess + primary) / student.inside_mass,
        (secondary - excess) * outside[0],
        primary / teacher.inside_mass,
        secondary * outside[1],
    )
