"""Losses on the N·N pairwise relations between the faces of a batch.

All take the gathered batch: student (N, D) and teacher (N, D'), whose widths may differ; the teacher receives no
gradient. All return a () loss >= 0 in float32 or better, 0 for a batch of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32, outside_autocast

PKT_EPSILON = 1e-7  # RepDistiller


@outside_autocast
def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """SP, similarity-preserving (after Tung, Mori; ICCV 2019).

    L = 1 / N² · ‖rows(F_S·F_Sᵀ) - rows(F_T·F_Tᵀ)‖²_F, where rows() gives every row unit length and F are raw
    embeddings. TFace leaves the rows as they are and takes cosines: that is `cckd_loss` with orders 0 and 1, up
    to a factor.

    >>> sp_loss(torch.eye(2), torch.ones(2, 3))
    tensor(0.2929)
    """
    ours, theirs = (F.normalize(e @ e.T) for e in _both(student, teacher))
    return (ours - theirs).square().mean()


@outside_autocast
def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT (Passalis, Tefas; ECCV 2018): Kullback-Leibler divergence of affinities.

    a_ij = (cos_ij + 1) / 2, p_ij = a_ij / sum_j a_ij, L = 1 / N² · sum over i, j of
    p_T · log((p_T + 1e-7) / (p_S + 1e-7)), the diagonal included, as in RepDistiller.

    >>> pkt_loss(torch.eye(2), torch.ones(2, 3))
    tensor(0.0294)
    """
    ours, theirs = (_affinities(_unit_cosines(e)) for e in _both(student, teacher))
    return (theirs * ((theirs + PKT_EPSILON) / (ours + PKT_EPSILON)).log()).mean()


@outside_autocast
def cckd_loss(
    student: Tensor, teacher: Tensor, *, gamma: float = 0.4, orders: Sequence[int] = (0, 1, 2)
) -> Tensor:
    """CCKD, correlation congruence, Gaussian kernel as a series (after Peng et al.; ICCV 2019).

    k(x, y) = sum over p of exp(-2·gamma) · (2·gamma)^p / p! · cos(x, y)^p, and L = 1 / N² · ‖k_S - k_T‖²_F.

    >>> cckd_loss(torch.eye(2), torch.ones(2, 3))
    tensor(0.1266)

    Args:
        student: (N, D).
        teacher: (N, D').
        gamma: Of the kernel exp(-gamma·‖x - y‖²) on unit embeddings, > 0.
        orders: Orders p of the series. TFace sums 0 and 1 only (`range(2)`, a slip): that is 0.1292 times the mean
            squared difference of cosines.
    """

    def kernel(cosines: Tensor) -> Tensor:
        series = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in orders]
        return math.exp(-2 * gamma) * torch.stack(series).sum(0)

    ours, theirs = (kernel(_unit_cosines(e)) for e in _both(student, teacher))
    return (ours - theirs).square().mean()


@outside_autocast
def darkrank_loss(
    student: Tensor, teacher: Tensor, *, alpha: float = 3.0, beta: float = 3.0, list_length: int = 4
) -> Tensor:
    """DarkRank, hard (Chen, Wang, Zhang; AAAI 2018): likelihood of the teacher's order under the student.

    Every image of the batch is a query once; its list is the `list_length` images nearest to it in the teacher's embedding,
    without itself, nearest first: nothing is random. With s = -alpha · d^beta the student's
    scores along the list, d distances of unit embeddings in [0, 2],
    L = -1 / N · sum over queries, sum over places k of log(exp(s_k) / sum over l >= k of exp(s_l))
    (Plackett, Luce). A batch of fewer than `list_length` + 1 images has shorter lists.

    >>> teacher = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> darkrank_loss(teacher, teacher)
    tensor(0.0750)

    Args:
        student: (N, D).
        teacher: (N, D').
        alpha: Contrast of the scores, > 0.
        beta: Power of the distance, > 0.
        list_length: 2 or more; 3 and 4 are in use.
    """
    ours, theirs = (F.normalize(e) for e in _both(student, teacher))
    length = min(list_length, len(ours) - 1)
    if length < 2:
        return ours.sum() * 0
    cosines = theirs @ theirs.T
    cosines.fill_diagonal_(-torch.inf)
    lists = cosines.topk(length, dim=1).indices  # (N, length)
    distances = torch.linalg.vector_norm(ours[:, None] - ours[lists], dim=2)
    scores = -alpha * distances**beta
    remaining = scores.flip(1).logcumsumexp(1).flip(1)  # log of the sum over the places from k on
    return (remaining - scores).sum(1).mean()


def _both(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return at_least_float32(student), at_least_float32(teacher.detach())


def _unit_cosines(embeddings: Tensor) -> Tensor:
    unit = F.normalize(embeddings)
    return unit @ unit.T


def _affinities(cosines: Tensor) -> Tensor:
    affinities = (cosines + 1) / 2
    return affinities / affinities.sum(1, keepdim=True)
