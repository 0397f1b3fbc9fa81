"""EKD (Huang, Wu, Xu, Ding; CVPR 2022): a pair should pass as many thresholds in the student as in the teacher."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from facedistill.losses.precision import at_least_float32

EXPONENT_LIMIT = 50.0  # released code
ROUNDING = 1 + 1e-12  # against 100 · 0.29 = 28.999999999999996
ROWS_AT_ONCE = 128  # of products, so that half of them are not computed


@dataclass(frozen=True)
class ScoredPairs:
    """All P = N·(N - 1) / 2 pairs of a batch, as both networks see them.

    Attributes:
        unit: (N, D) unit embeddings of the student, with gradient.
        teacher_unit: (N, D') those of the teacher.
        labels: (N,) identities.
        positions: (P,) i·N + j of every pair i < j.
        student: (P,) scores, without gradient.
        teacher: (P,) scores.
        genuine: (P,) bool, true where both faces are of one identity.
    """

    unit: Tensor
    teacher_unit: Tensor
    labels: Tensor
    positions: Tensor
    student: Tensor
    teacher: Tensor
    genuine: Tensor

    def impostor_scores(self, scores: Tensor) -> Tensor:
        """(P,) scores, -inf where the pair is genuine."""
        return scores.masked_fill(self.genuine, -torch.inf)


def score_pairs(student: Tensor, teacher: Tensor, labels: Tensor) -> ScoredPairs:
    """Cosines of every pair of a batch.

    Args:
        student: (N, D) embeddings of any norm.
        teacher: (N, D') embeddings of any norm; receives no gradient.
        labels: (N,) identities.

    Returns:
        The pairs, in float32 or better, outside autocast.
    """
    with torch.autocast(student.device.type, enabled=False):
        unit = F.normalize(at_least_float32(student))
        teacher_unit = F.normalize(at_least_float32(teacher.detach()))
        positions = _upper_triangle(len(unit), unit.device)
        with torch.no_grad():
            matrices = (_products(unit), _products(teacher_unit), labels[:, None] == labels)
            ours, theirs, genuine = (m.flatten().index_select(0, positions) for m in matrices)
    return ScoredPairs(unit, teacher_unit, labels, positions, ours, theirs, genuine)


def thresholds_at(descending: Tensor, num_impostors: Tensor, fars: Sequence[float]) -> Tensor:
    """The scores at places floor(Q · far) of Q impostor scores in descending order (released code).

    >>> thresholds_at(torch.tensor([0.9, 0.5, 0.1]), torch.tensor(4), [0.01, 0.5])
    tensor([0.9000, 0.1000])

    Args:
        descending: (k,) the highest impostor scores in descending order, k > floor(Q · far) for every far.
        num_impostors: () Q, on the device.
        fars: A false accept rates, fractions.

    Returns:
        (A,) thresholds. Below 1 / Q a rate is not resolved: its threshold is the highest score.
    """
    return descending[(num_impostors * _rates(tuple(fars), descending.device) * ROUNDING).long()]


def soft_rank(scores: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
    """How many thresholds a score passes, with soft edges: R = sum over k of sigma((s - t_k) / temperature).

    >>> soft_rank(torch.tensor([0.3]), torch.tensor([0.1, 0.2, 0.9]), temperature=0.01)
    tensor([2.0000])

    Args:
        scores: (P,) in [-1, 1].
        thresholds: (A,); they receive no gradient.
        temperature: Width of an edge, > 0; the exponent is limited to ±50 as in the released code.

    Returns:
        (P,) ranks in [0, A].
    """
    return _SoftRank.apply(scores, thresholds, temperature)


def rank_losses(
    pairs: ScoredPairs,
    hardest: Tensor,
    student_thresholds: Tensor,
    teacher_thresholds: Tensor,
    *,
    temperature: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Squared difference of soft ranks, over all genuine pairs and over the hardest impostors.

    L_genuine = mean over genuine pairs of (R_S - R_T)², L_impostor the same over `hardest` (methods' section
    2.2). On an accelerator the genuine pairs are weighted instead of selected, which needs no host sync.

    >>> student, teacher = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    >>> pairs = score_pairs(student, teacher, torch.tensor([7, 7]))
    >>> rank_losses(pairs, torch.empty(0, dtype=torch.int64), torch.tensor([0.3]), torch.tensor([0.5]))
    (tensor(1.), tensor(0.))

    Args:
        pairs: From `score_pairs`.
        hardest: (H,) indices into the P pairs; genuine ones among them (too few impostors) do not count.
        student_thresholds: (A,).
        teacher_thresholds: (A,).
        temperature: That of `soft_rank`.

    Returns:
        Two () losses >= 0; one without any pair is 0, with a gradient of 0.
    """
    selected = pairs.genuine.nonzero().squeeze(1) if pairs.unit.device.type == "cpu" else None
    own = torch.arange(len(pairs.genuine), device=pairs.unit.device) if selected is None else selected
    chosen = torch.cat([own, hardest])
    scores = _scores_at(pairs.unit, pairs.positions[chosen], pairs.student[chosen])
    errors = (
        soft_rank(scores, student_thresholds, temperature)
        - soft_rank(pairs.teacher[chosen], teacher_thresholds, temperature)
    ).square()
    counted = torch.cat([pairs.genuine[own], ~pairs.genuine[hardest]]).to(errors.dtype)
    losses = errors * counted
    parts = (slice(None, len(own)), slice(len(own), None))
    genuine, impostor = (losses[part].sum() / counted[part].sum().clamp(min=1) for part in parts)
    return genuine, impostor


def _products(unit: Tensor) -> Tensor:
    """(N, N) scalar products on and above the diagonal; uninitialized below it."""
    products = unit.new_empty(len(unit), len(unit))
    for start in range(0, len(unit), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        products[rows, start:] = unit[rows] @ unit[start:].T
    return products


@functools.lru_cache(maxsize=4)
def _rates(fars: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(fars, dtype=torch.float64, device=device)


@functools.lru_cache(maxsize=4)
def _upper_triangle(size: int, device: torch.device) -> Tensor:
    first, second = torch.triu_indices(size, size, offset=1, device=device)
    return first * size + second


def _scores_at(unit: Tensor, positions: Tensor, scores: Tensor) -> Tensor:
    return _SelectedScores.apply(unit, positions, scores)


class _SoftRank(torch.autograd.Function):
    """One threshold after the other, so that no (P, A) matrix is held: a GPU ranks all pairs of a batch."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(scores, thresholds)
        ctx.temperature = temperature
        ranks = torch.zeros_like(scores)
        for threshold in thresholds:
            exponents = torch.sub(scores, threshold).div_(temperature)
            ranks += exponents.clamp_(-EXPONENT_LIMIT, EXPONENT_LIMIT).sigmoid_()
        return ranks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        scores, thresholds = ctx.saved_tensors
        slopes = torch.zeros_like(scores)
        for threshold in thresholds:
            exponents = torch.sub(scores, threshold).div_(ctx.temperature)
            passed = exponents.clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).sigmoid_()
            slopes += passed.addcmul(passed, passed, value=-1).mul_(exponents.abs_() <= EXPONENT_LIMIT)
        return gradient * slopes.div_(ctx.temperature), None, None


class _SelectedScores(torch.autograd.Function):
    """Scores (H,) of the pairs at `positions`, which are known already, made differentiable in `unit`.

    score_h = u_i · u_j for pair h = (i, j), so with g = dL/dscore

        dL/du_i = sum over pairs h that contain i of g_h · u_(the other image)

    That is G u, with the symmetric (N, N) matrix G that has g_h at (i, j) and (j, i); no (H, D) gathered embeddings are
    needed. Only H of the N² / 2 pairs are selected, so G is sparse on a CPU. A GPU reads the number of distinct entries of a
    sparse matrix back to the host, so there G is dense.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, unit: Tensor, positions: Tensor, scores: Tensor) -> Tensor:
        ctx.save_for_backward(unit, positions)
        return scores.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        unit, positions = ctx.saved_tensors
        return weighted_sums(unit, positions, gradient, dense=unit.device.type != "cpu"), None, None


def weighted_sums(unit: Tensor, positions: Tensor, weights: Tensor, *, dense: bool) -> Tensor:
    """G u, where G is 0 but for the weights (H,) at `positions` i·N + j, i < j, and at their mirror images j·N + i.

    Args:
        unit: (N, D) embeddings u.
        positions: (H,) pairs.
        weights: (H,) of the pairs; those of a repeated pair add up.
        dense: Whether G is held as (N, N) numbers.

    Returns:
        (N, D).
    """
    size = len(unit)
    if dense:
        matrix = unit.new_zeros(size * size).index_add_(0, positions, weights).view(size, size)
        return (matrix + matrix.T) @ unit
    first, second = positions // size, positions % size
    both = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
    return torch.sparse_coo_tensor(both, weights.repeat(2), (size, size), check_invariants=False) @ unit
