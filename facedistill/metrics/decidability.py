"""Daugman's decidability index d' of a few pairs: precise enough to choose a teacher's input spec."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.metrics.verification import auc

RESAMPLES = 300
MIN_DIFFERENCE = 0.01  # relative to the best d-prime; a smaller one counts as a tie


@dataclass(frozen=True)
class Decidability:
    """Scores of K genuine pairs and K (K - 1) impostor pairs.

    Attributes:
        genuine: Mean cosine of the genuine pairs.
        impostor: Mean cosine of the impostor pairs.
        d_prime: (mean genuine - mean impostor) / sqrt((variance genuine + variance impostor) / 2).
        auc: Probability that a genuine pair scores above an impostor pair.
        cosines: (K, K) of every base face with every variation; the diagonal is genuine.
    """

    genuine: float
    impostor: float
    d_prime: float
    auc: float
    cosines: Tensor


def decidability(base: Tensor, variation: Tensor) -> Decidability:
    """Measures embeddings of two faces per identity; row i of both belongs to identity i.

    Args:
        base: (K, D) embeddings, K >= 3.
        variation: (K, D) embeddings.

    >>> base = torch.eye(4)
    >>> decidability(base, base + 0.1 * torch.randn(4, 4)).auc
    1.0
    """
    cosines = F.normalize(base.double(), dim=1) @ F.normalize(variation.double(), dim=1).T
    same = torch.eye(len(cosines), dtype=torch.bool)
    genuine, impostor = cosines[same], cosines[~same]
    return Decidability(
        float(genuine.mean()),
        float(impostor.mean()),
        float(_d_prime(cosines, same, ~same)),
        auc(genuine, impostor),
        cosines,
    )


def tied(best: Decidability, other: Decidability) -> bool:
    """Whether `other` may be as good as `best`: d-prime differs by less than 1 %, or twice the standard error.

    The standard error comes from a bootstrap over identities that draws the same identities for both.

    >>> base = torch.eye(4)
    >>> exact, noisy = decidability(base, base), decidability(base, base + 0.3 * torch.ones(4, 4))
    >>> tied(exact, exact), tied(exact, noisy)
    (True, False)
    """
    generator = torch.Generator().manual_seed(0)
    k = len(best.cosines)
    differences = []
    for _ in range(RESAMPLES):
        drawn = torch.randint(k, (k,), generator=generator)
        if len(drawn.unique()) < 2:
            continue
        impostor = drawn[:, None] != drawn  # two draws of one identity are not an impostor pair
        genuine = torch.eye(k, dtype=torch.bool)
        both = [_d_prime(one.cosines[drawn][:, drawn], genuine, impostor) for one in (best, other)]
        differences.append(both[0] - both[1])
    error = torch.stack(differences).std()
    return best.d_prime - other.d_prime <= max(2 * float(error), MIN_DIFFERENCE * best.d_prime)


def _d_prime(cosines: Tensor, genuine: Tensor, impostor: Tensor) -> Tensor:
    g, i = cosines[genuine], cosines[impostor]
    return (g.mean() - i.mean()) / ((g.var() + i.var()) / 2).clamp_min(1e-12).sqrt()
