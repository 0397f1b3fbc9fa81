"""Grouped knowledge distillation (GKD; Zhao et al., AAAI 2023) of identity logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facedistill.distributed.partition import Partition
from facedistill.losses.group_divergences import GroupDivergences
from facedistill.losses.grouping import Grouping, Network, group_thresholds

WeightedTerms = dict[str, tuple[Tensor, float]]
"""Terms of a loss by name: values per image, (N,), and the weight they have in the sum."""


class GroupTerms(NamedTuple):
    """The parts of KL(p_T ‖ p_S) per image, (N,) each and >= 0.

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
    partition: Partition | None = None,
) -> Tensor:
    """Grouped KD per image: temperature² · (alpha · binary + beta · primary + lambda · secondary).

    As in the released code the teacher's mass b_T before the primary term is replaced by the constant beta, and
    the secondary term is left out (lambda = 0). Differences: partial sums are taken as logarithms, so that half
    precision and extreme logits do no harm; a group that holds all identities leaves binary and secondary at 0
    (released: NaN); ties at the group's border are all in.

    With several parts each process passes its columns of the global batch. The group is found by counting (one small
    all-reduce per bit of a threshold), the log-sum-exps are merged by maximum and sum. Every process returns the same
    values and gets the exact gradient with respect to its own columns.

    >>> student, teacher = torch.tensor([[4.0, 2.0, 0.0, 0.0]]), torch.tensor([[4.0, 0.0, 2.0, 0.0]])
    >>> gkd(student, teacher, torch.tensor([0]), Grouping("top_n", size=2)).round(decimals=2)
    tensor([3.7400])

    Args:
        student: (N, K) logits, scale included, with or without margin, any floating dtype.
        teacher: (N, K) logits; receives no gradient.
        labels: (N,) identity index in [0, K).
        grouping: How the primary group is chosen; a constant for the gradient.
        alpha: Weight of Binary-KD (released 1; the paper's lambda_2).
        beta: Weight of Primary-KD (released `gkd.py` 8, `gkd_adaptive.py` 4; the paper's lambda_1).
        lambda_: Weight of Secondary-KD (released 0).
        temperature: Softmax divisor, > 0 (released 4).
        partition: Which identities the columns are; None if they are all.

    Returns:
        (N,) losses, float32 or better.
    """
    return weighted_sum(
        gkd_terms(
            student, teacher, labels, grouping, alpha=alpha, beta=beta, lambda_=lambda_, temperature=temperature,
            partition=partition,
        )
    )  # fmt: skip


def gkd_terms(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    grouping: Grouping,
    *,
    alpha: float,
    beta: float,
    lambda_: float,
    temperature: float,
    partition: Partition | None = None,
) -> WeightedTerms:
    """The terms of `gkd` with their weights, temperature² included; a term of weight 0 is left out."""
    partition = partition or Partition.whole(student.shape[1])
    ranking = student if grouping.ranked_by == "student" else teacher
    columns = partition.columns(labels)
    thresholds = group_thresholds(ranking.detach(), columns, grouping, temperature, partition)
    terms = group_terms(student, teacher, columns, thresholds, temperature, partition, grouping.ranked_by)
    weights = {"binary": alpha, "primary": beta, "secondary": lambda_}
    return {
        name: (values, temperature**2 * weights[name])
        for name, values in terms._asdict().items()
        if weights[name]
    }


def weighted_sum(terms: WeightedTerms) -> Tensor:
    """(N,) sum of weight · values."""
    return torch.stack([weight * values for values, weight in terms.values()]).sum(0)


def group_terms(
    student: Tensor,
    teacher: Tensor,
    columns: Tensor,
    thresholds: Tensor,
    temperature: float,
    partition: Partition,
    ranked_by: Network = "student",
) -> GroupTerms:
    """The three divergences, differentiable in the student's logits.

    Rows are processed in blocks, and the gradient is written out instead of derived by autograd, so that apart from
    the logits only the gradient itself has N·K numbers.

    Args:
        student: (N, K') logits of the identities of this process.
        teacher: (N, K') logits; receives no gradient.
        columns: (N,) column of the label, -1 where another process holds it.
        thresholds: (N,) lowest logit of the primary group; the label is in it in any case.
        temperature: Softmax divisor of both.
        partition: Which identities the columns are.
        ranked_by: Whose logits the thresholds are for.
    """
    arguments = (columns, thresholds, temperature, ranked_by, partition)
    return GroupTerms(*GroupDivergences.apply(student, teacher.detach(), *arguments))
