"""Losses on the similarity of an image to the centers of other identities: tensors to one value per image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32, outside_autocast


@outside_autocast
def nearest_identities(teacher: Tensor, labels: Tensor, centers: Tensor, count: int) -> Tensor:
    """The identities, other than its own, whose centers are most similar to the teacher's embedding of each image.

    >>> nearest_identities(torch.tensor([[1.0, 0.1]]), torch.tensor([0]), torch.eye(2).repeat(2, 1), count=2)
    tensor([[2, 3]])

    Args:
        teacher: (N, D) embeddings of any norm.
        labels: (N,) identities in [0, K).
        centers: (K, D) unit centers.
        count: How many; at most K - 1 are given.

    Returns:
        (N, min(count, K - 1)) identities, most similar first.
    """
    scores = F.normalize(at_least_float32(teacher)) @ at_least_float32(centers).T
    scores.scatter_(1, labels[:, None], -torch.inf)
    return scores.topk(min(count, len(centers) - 1), dim=1).indices


@outside_autocast
def relation_excess(student: Tensor, teacher: Tensor, others: Tensor, tolerance: float = 0.03) -> Tensor:
    """CoupleFace's relation-aware distillation: the student may not be closer to others than the teacher is.

    L_i = mean_k relu(g_ik · s_i - g_ik · t_i - tolerance), s and t unit embeddings

    One-sided: being further from other identities than the teacher costs nothing.

    >>> others = torch.tensor([[[0.0, 1.0]]])
    >>> relation_excess(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), others)
    tensor([0.7700])

    Args:
        student: (N, D) embeddings of any norm > 0.
        teacher: (N, D) embeddings of any norm > 0; receives no gradient.
        others: (N, M, D) unit centers of other identities per image, M >= 0; receive no gradient.
        tolerance: Cosine by which the student may exceed the teacher, q in the paper's terms.

    Returns:
        (N,) losses in [0, 2]; 0 where M is 0.
    """
    unit = F.normalize(at_least_float32(student)) - F.normalize(at_least_float32(teacher.detach()))
    excess = torch.einsum("nd,nmd->nm", unit, others.detach().to(unit.dtype)) - tolerance
    return F.relu(excess).sum(1) / max(1, others.shape[1])
