"""Grouped knowledge distillation (GKD; Zhao et al., AAAI 2023) of identity logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from facedistill.losses.grouping import (
    Alone,
    Grouping,
    group_thresholds,
    put_at_label,
    row_blocks,
    widened,
)


class GroupTerms(NamedTuple):
    """What KL(p_T ‖ p_S) falls into, per image, (N,) each and >= 0.

    With b the mass of the primary group, KL = binary + b_T · primary + (1 - b_T) · secondary, exactly.
    """

    binary: Tensor
    primary: Tensor
    secondary: Tensor


def gkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    grouping: Grouping,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    lambda_: float = 0.0,
    temperature: float = 4.0,
) -> Tensor:
    """Grouped KD per image: temperature² · (alpha · binary + beta · primary + lambda · secondary).

    As in the released code the teacher's mass b_T before the primary term is replaced by the constant beta, and
    the secondary term is left out (lambda = 0). Differences: partial sums are taken as logarithms, so that half
    precision and extreme logits do no harm; a group that holds all identities leaves binary and secondary at 0
    (released: NaN); ties at the group's border are all in.

    Args:
        student: (N, K) logits, scale included, with or without margin, any floating dtype.
        teacher: (N, K) logits; receives no gradient.
        labels: (N,) identity index in [0, K).
        grouping: How the primary group is chosen; a constant for the gradient.
        alpha: Weight of Binary-KD (released 1; the paper's lambda_2).
        beta: Weight of Primary-KD (released `gkd.py` 8, `gkd_adaptive.py` 4; the paper's lambda_1).
        lambda_: Weight of Secondary-KD (released 0).
        temperature: Softmax divisor, > 0 (released 4).

    Returns:
        (N,) losses, float32 or better.
    """
    terms = grouped_terms(student, teacher, labels, grouping, temperature)
    return weighted_terms(terms, alpha, beta, lambda_, temperature)


def grouped_terms(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    grouping: Grouping,
    temperature: float,
    across: Alone | None = None,
) -> GroupTerms:
    """`group_terms` of the groups that `grouping` forms."""
    ranking = student if grouping.ranked_by == "student" else teacher
    thresholds = group_thresholds(ranking.detach(), labels, grouping, temperature, across)
    return group_terms(student, teacher, labels, thresholds, temperature, grouping.ranked_by, across)


def weighted_terms(
    terms: GroupTerms, alpha: float, beta: float, lambda_: float, temperature: float
) -> Tensor:
    """(N,) temperature² · (alpha · binary + beta · primary + lambda · secondary)."""
    loss = alpha * terms.binary + beta * terms.primary
    return temperature**2 * (loss + lambda_ * terms.secondary if lambda_ else loss)


def group_terms(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    thresholds: Tensor,
    temperature: float,
    ranking: str = "student",
    across: Alone | None = None,
) -> GroupTerms:
    """The three divergences, differentiable in the student's logits.

    Blocks of rows are worked off one after the other, and the gradient is written down (not derived by
    autograd), so that beside the logits only the gradient itself has N·K numbers.

    Args:
        student: (N, K) logits; a shard's columns with `across`.
        teacher: (N, K) logits; receives no gradient.
        labels: (N,) identity index.
        thresholds: (N,) least logit of the primary group; the label is in it in any case.
        temperature: Softmax divisor of both.
        ranking: Whose logits the thresholds are for, "student" or "teacher".
        across: How the shards of the identities are merged; None where there is one.
    """
    arguments = (labels, thresholds, temperature, ranking, across or Alone())
    return GroupTerms(*_GroupTerms.apply(student, teacher.detach(), *arguments))


class _Side(NamedTuple):
    """Log-sum-exp of one network's softened logits, per row: pivot + log(mass), inside and outside the group."""

    inside_pivot: Tensor
    inside_mass: Tensor
    outside_pivot: Tensor
    outside_mass: Tensor

    def powers(self, logits: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        pivot = inside * self.inside_pivot[:, None]
        return torch.sub(logits, pivot.addcmul_(outside, self.outside_pivot[:, None])).exp_()

    @property
    def log_odds(self) -> Tensor:
        """log(b / (1 - b)); +inf where nothing is outside."""
        inside = self.inside_pivot + self.inside_mass.log()
        return inside - self.outside_pivot - self.outside_mass.log()


class _Rows(NamedTuple):
    """All that the three terms and their gradient need of the K logits of each row."""

    student: _Side
    teacher: _Side
    inside_cross: Tensor  # sum of teacher powers x (teacher - student), softened logits
    outside_cross: Tensor


class _GroupTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, labels: Tensor, thresholds: Tensor,
        temperature: float, ranking: str, across: Alone,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        blocks = []
        for rows in row_blocks(student):
            z, u = widened(student[rows]), widened(teacher[rows])
            ranked = z if ranking == "student" else u
            inside, outside = _members(ranked, labels[rows], thresholds[rows], across.first)
            blocks.append(_statistics(z / temperature, u / temperature, inside, outside))
        merged = _merged(_concatenated(blocks), across)
        ctx.save_for_backward(student, teacher, labels, thresholds, *merged.student, *merged.teacher)
        ctx.temperature, ctx.ranking, ctx.first = temperature, ranking, across.first
        return _divergences(merged)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        student, teacher, labels, thresholds, *rest = ctx.saved_tensors
        by_row = _coefficients(_Side(*rest[:4]), _Side(*rest[4:]), *upstream)
        gradient = torch.empty_like(student)
        for rows in row_blocks(student):
            z, u = widened(student[rows]), widened(teacher[rows])
            ranked = z if ctx.ranking == "student" else u
            inside, outside = _members(ranked, labels[rows], thresholds[rows], ctx.first)
            own = _Side(*(value[rows] for value in rest[:4])).powers(z / ctx.temperature, inside, outside)
            other = _Side(*(value[rows] for value in rest[4:])).powers(u / ctx.temperature, inside, outside)
            a, b, c, d = (value[rows, None] / ctx.temperature for value in by_row)
            own.mul_((inside * a).addcmul_(outside, b))
            gradient[rows] = own.addcmul_(other, (inside * c).addcmul_(outside, d), value=-1)
        return gradient, None, None, None, None, None, None


def _members(ranked: Tensor, labels: Tensor, thresholds: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """1 inside and 0 outside the group, and the reverse, as numbers."""
    inside = torch.ge(ranked, thresholds[:, None], out=torch.empty_like(ranked))
    put_at_label(inside, labels, first, 1.0)
    return inside, 1 - inside


def _statistics(student: Tensor, teacher: Tensor, inside: Tensor, outside: Tensor) -> _Rows:
    sides, powers = [], torch.empty(0)
    for logits in (student, teacher):
        lowest = logits.amin(1, keepdim=True)
        above = logits - lowest  # >= 0, so that zeros outside the mask cannot win; the pivot may be inexact
        pivots = [(above * mask).amax(1) + lowest[:, 0] for mask in (inside, outside)]
        one = torch.ones_like(pivots[0])
        powers = _Side(pivots[0], one, pivots[1], one).powers(logits, inside, outside)
        sides.append(_Side(pivots[0], (powers * inside).sum(1), pivots[1], (powers * outside).sum(1)))
    cross = powers.mul_(teacher - student)
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


def _merged(local: _Rows, across: Alone) -> _Rows:
    """Statistics of all shards from those of each."""
    if type(across) is Alone:
        return local

    def part(pivot: Tensor, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        common = across.largest(pivot.where(mass > 0, -torch.inf))
        common = common.where(common > -torch.inf, 0.0)
        factor = (pivot - common).exp().where(mass > 0, 0.0)
        return common, across.total(mass * factor), factor

    student = (*part(*local.student[:2])[:2], *part(*local.student[2:])[:2])
    inside, outside = part(*local.teacher[:2]), part(*local.teacher[2:])
    return _Rows(
        _Side(*student),
        _Side(*inside[:2], *outside[:2]),
        across.total(local.inside_cross * inside[2]),
        across.total(local.outside_cross * outside[2]),
    )


def _divergences(rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = rows.student, rows.teacher
    zero = torch.zeros_like(rows.inside_cross)
    empty = teacher.outside_mass == 0

    own, other = student.log_odds, teacher.log_odds
    binary = other.sigmoid() * (F.logsigmoid(other) - F.logsigmoid(own))
    binary = binary + (-other).sigmoid() * (F.logsigmoid(-other) - F.logsigmoid(-own))
    primary = rows.inside_cross / teacher.inside_mass + (
        student.inside_pivot + student.inside_mass.log() - teacher.inside_pivot - teacher.inside_mass.log()
    )
    secondary = rows.outside_cross / teacher.outside_mass + (
        student.outside_pivot
        + student.outside_mass.log()
        - teacher.outside_pivot
        - teacher.outside_mass.log()
    )
    return torch.where(empty, zero, binary), primary, torch.where(empty, zero, secondary)


def _coefficients(
    student: _Side, teacher: _Side, binary: Tensor, primary: Tensor, secondary: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the powers are multiplied with: the student's inside and outside, the teacher's inside and outside.

    d binary / d z = p̂ · (b_S - b_T) inside and q̂ · (b_T - b_S) outside; d primary = p̂_S - p̂_T inside;
    d secondary = q̂_S - q̂_T outside, where p̂ and q̂ are the probabilities inside and outside the group.
    """
    own, other = student.log_odds, teacher.log_odds
    small = (own.sigmoid() - other.sigmoid()).where(own < 0, (-other).sigmoid() - (-own).sigmoid())
    empty = teacher.outside_mass == 0
    outside = [(1 / side.outside_mass).where(~empty, 0.0) for side in (student, teacher)]
    excess = (binary * small).where(~empty, 0.0)
    return (
        (excess + primary) / student.inside_mass,
        (secondary - excess) * outside[0],
        primary / teacher.inside_mass,
        secondary * outside[1],
    )
