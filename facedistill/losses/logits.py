"""Distillation of identity logits: Hinton's KD and its decoupled form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.groups import GroupTerms, group_terms, weighted_terms
from facedistill.losses.precision import at_least_float32


def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015): temperature² · KL(softmax(z_T / t) ‖ softmax(z_S / t)).

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
    terms = dkd_terms(student, teacher, labels, temperature)
    return weighted_terms(terms, alpha, 0.0, beta, temperature)


def dkd_terms(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> GroupTerms:
    """DKD is GKD with the label alone in the group: its two terms are `binary` and `secondary`, (N,) each."""
    alone = torch.full(
        labels.shape, torch.inf, device=labels.device, dtype=at_least_float32(student[:1]).dtype
    )
    return group_terms(student, teacher, labels, alone, temperature)
