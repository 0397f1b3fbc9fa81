"""Distillation of identity logits: Hinton's KD and its decoupled form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.distributed.partition import Partition
from facedistill.losses.groups import WeightedTerms, group_terms, weighted_sum
from facedistill.losses.precision import at_least_float32


def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015): temperature² · KL(softmax(z_T / t) ‖ softmax(z_S / t)).

    Deep mutual learning (Zhang et al., CVPR 2018) is the same with the peer as the teacher.

    >>> kd(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), temperature=1.0)
    tensor([1.5232])

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits; receives no gradient.
        temperature: Softmax divisor t > 0 (4 in TFace's and mdistiller's released code).

    Returns:
        (N,) losses >= 0, float32 or better.
    """
    own = (at_least_float32(student) / temperature).log_softmax(1)
    other = (at_least_float32(teacher.detach()) / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(own, other, reduction="none", log_target=True).sum(1)


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Decoupled KD (Zhao et al., CVPR 2022): temperature² · (alpha · KL(b_T ‖ b_S) + beta · KL(q_T ‖ q_S)).

    b is (probability of the label, all the rest); q are the probabilities of the others among themselves. With
    one identity both are 0.

    >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    >>> dkd(student, teacher, torch.tensor([0]), temperature=1.0)
    tensor([0.9271])

    Args:
        student: (N, K) logits.
        teacher: (N, K) logits; receives no gradient.
        labels: (N,) identity index in [0, K).
        alpha: Weight of the label's own term (released 1).
        beta: Weight of the others' (released 8).
        temperature: Softmax divisor (released 4).

    Returns:
        (N,) losses >= 0, float32 or better.
    """
    return weighted_sum(dkd_terms(student, teacher, labels, alpha=alpha, beta=beta, temperature=temperature))


def dkd_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, beta: float, temperature: float
) -> WeightedTerms:
    """The terms of `dkd`, "binary" and "secondary", with their weights, temperature² included.

    DKD is GKD with the label alone in the primary group: no logit reaches a threshold of infinity.
    """
    thresholds = torch.full_like(labels, torch.inf, dtype=at_least_float32(student[:1]).dtype)
    whole = Partition.whole(student.shape[1])
    terms = group_terms(student, teacher, labels, thresholds, temperature, whole)
    return {
        "binary": (terms.binary, temperature**2 * alpha),
        "secondary": (terms.secondary, temperature**2 * beta),
    }
