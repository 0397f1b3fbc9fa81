"""Noise-contrastive estimation against a memory bank: tensors to one value per image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32, outside_autocast


@outside_autocast
def bank_scores(queries: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Inner products of projections with entries of a memory bank.

    >>> queries = torch.tensor([[1.0, 0.0]])
    >>> bank_scores(queries, torch.tensor([[0.6, 0.8]]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    tensor([[ 0.6000,  0.0000, -1.0000]])

    Args:
        queries: (N, D) unit projections.
        own: (N, D) bank entry of each query's own image.
        others: (M, D) entries that all queries share, or (N, M, D) entries of each query's own.

    Returns:
        (N, 1 + M) scores in [-1, 1], that with the own image first, float32 or better.
    """
    queries, own, others = map(at_least_float32, (queries, own, others))
    first = (queries * own).sum(1, keepdim=True)
    rest = queries @ others.T if others.dim() == 2 else torch.einsum("nd,nmd->nm", queries, others)
    return torch.cat([first, rest], 1)


def log_normalizer(scores: Tensor, temperature: float, num_images: int) -> Tensor:
    """log Z of CRD: the mean of exp(score / temperature) over `scores`, times the number of images.

    >>> log_normalizer(torch.zeros(2, 3), temperature=0.07, num_images=100)  # log 100
    tensor(4.6052)

    Args:
        scores: (N, 1 + M) of the first batch.
        temperature: > 0.
        num_images: Size of the set.

    Returns:
        () log Z, without gradient.
    """
    logits = scores.detach() / temperature
    return torch.logsumexp(logits.flatten(), 0) + math.log(num_images / logits.numel())


@outside_autocast
def noise_contrastive(scores: Tensor, log_z: Tensor, temperature: float, num_images: int) -> Tensor:
    """CRD's critic (after Tian, Krishnan, Isola; ICLR 2020): is a pair of one image, or noise?

    With x_j = exp(score_j / temperature) / Z and c = M / num_images:

    L_i = -log(x_0 / (x_0 + c)) - sum_{j=1..M} log(c / (x_j + c))

    Computed as sigmoids of log x - log c, so that nothing overflows; the released code's eps of 1e-7 next to c is not
    needed.

    >>> scores = torch.tensor([[0.9, 0.1, -0.2]])
    >>> noise_contrastive(scores, log_normalizer(scores, 0.5, 10), 0.5, 10)
    tensor([0.9555])

    Args:
        scores: (N, 1 + M), the pair of one image first, then M noise pairs.
        log_z: () log of Z.
        temperature: > 0; 0.07 in the released code.
        num_images: Size of the set; noise is uniform over it.

    Returns:
        (N,) losses >= 0.
    """
    scores = at_least_float32(scores)
    log_c = math.log((scores.shape[1] - 1) / num_images)
    logits = scores / temperature - log_z - log_c
    return -F.logsigmoid(logits[:, 0]) - F.logsigmoid(-logits[:, 1:]).sum(1)
