"""ILED and RPSD: embeddings and pair similarities follow the teacher's, with the hard ones mined (IJCB 2025).

Mishra, Uikey: Unified Knowledge Distillation Framework (arXiv:2508.11376). Only the abstract could be read. It says what
the two terms are for and that the first has a dynamic hard mining strategy, the second a memory bank and a sample mining
strategy; the formulas below are reconstructed from that and are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.embedding import cosine_distances
from facedistill.losses.precision import at_least_float32, outside_autocast


@outside_autocast
def instance_distillation(student: Tensor, teacher: Tensor, *, hard_weight: float = 1.0) -> Tensor:
    """ILED, reconstructed: the cosine distance of each image, the hard ones with more weight.

    d_i = 1 - cos(s_i, t_i), w_i = 1 + hard_weight · [d_i > mean d of the batch], L = sum w_i · d_i / sum w_i. The mean
    falls while the student learns, so what counts as hard is dynamic.

    >>> student = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> instance_distillation(student, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(0.6667)

    Args:
        student: (N, D) embeddings of the global batch, of any norm > 0.
        teacher: (N, D); receives no gradient.
        hard_weight: >= 0; with 0 this is `cosine_loss`.

    Returns:
        () loss in [0, 2].
    """
    distances = cosine_distances(student, teacher)
    weights = 1 + hard_weight * (distances > distances.mean()).to(distances)
    return (weights * distances).sum() / weights.sum()


@outside_autocast
def pair_similarity_distillation(
    student: Tensor, teacher: Tensor, student_bank: Tensor, teacher_bank: Tensor, *, num_pairs: int = 100
) -> Tensor:
    """RPSD, reconstructed: cosines with the nearest images of batch and memory bank are those of the teacher.

    For each image, the `num_pairs` other images of batch and bank that are nearest to it in the teacher's embedding are
    mined: confusable identities, and images of the same one. L = mean over mined pairs of (cos_S - cos_T)².

    >>> none = torch.zeros(0, 2)
    >>> pair_similarity_distillation(torch.eye(2), torch.tensor([[1.0, 0.0], [2.0, 0.0]]), none, none)
    tensor(1.)

    Args:
        student: (N, D) embeddings of the global batch, of any norm > 0.
        teacher: (N, D'); receives no gradient.
        student_bank: (M, D) unit embeddings of earlier batches, constants; a row of zeros is an empty place.
        teacher_bank: (M, D'), the same images as the teacher sees them.
        num_pairs: Pairs per image, > 0.

    Returns:
        () loss in [0, 4]; 0 where there is no pair.
    """
    ours, theirs = F.normalize(at_least_float32(student)), F.normalize(at_least_float32(teacher.detach()))
    cosines = ours @ torch.cat([ours, student_bank.detach().to(ours)]).T
    wanted = theirs @ torch.cat([theirs, teacher_bank.detach().to(theirs)]).T
    empty = torch.cat([torch.zeros(len(ours), device=ours.device), (teacher_bank == 0).all(1).to(ours)]) > 0
    empty = empty.expand(len(ours), -1).clone()
    empty[:, : len(ours)].fill_diagonal_(True)
    count = min(num_pairs, wanted.shape[1] - 1)
    nearest = wanted.masked_fill(empty, -torch.inf).topk(count, dim=1)
    used = (nearest.values > -torch.inf).to(cosines)
    gaps = (cosines.gather(1, nearest.indices) - wanted.gather(1, nearest.indices)).square()
    return (gaps * used).sum() / used.sum().clamp_min(1)
