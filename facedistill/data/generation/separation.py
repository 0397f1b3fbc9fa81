"""How well a network tells the identities of a labeled set apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_IMAGES = 3000  # for impostor pairs: 4.5 million pairs


@dataclass(frozen=True)
class Separation:
    """Cosines within and between identities.

    Attributes:
        mean_genuine_cosine: Over all pairs of different images of one identity; None without such a pair.
        mean_impostor_cosine: Over pairs of images of different identities.
        impostor_cosine_999: Their 99.9th percentile; None below 1000 pairs.
        genuine_above: Fraction of genuine pairs above it; None where it is.
    """

    mean_genuine_cosine: float | None
    mean_impostor_cosine: float
    impostor_cosine_999: float | None
    genuine_above: float | None

    def sentence(self) -> str:
        """The message for the user."""
        said = f"mean impostor cosine {self.mean_impostor_cosine:.3f}"
        if self.impostor_cosine_999 is not None:
            said += f", 99.9 % of impostor pairs below {self.impostor_cosine_999:.3f}"
        if self.mean_genuine_cosine is not None:
            said = f"mean genuine cosine {self.mean_genuine_cosine:.3f}, {said}"
        if self.genuine_above is not None:
            said += f" and {100 * self.genuine_above:.1f} % of genuine pairs above"
        return said


def measure_separation(embeddings: Tensor, labels: Tensor) -> Separation:
    """Measures all genuine pairs, and the impostor pairs among at most 3000 images spread over the set.

    Args:
        embeddings: (N, D), un-normalized.
        labels: (N,) identities, at least two.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    genuine = []
    order = labels.argsort(stable=True)
    for own in order.split(labels.bincount().tolist()):
        pairs = torch.triu_indices(len(own), len(own), offset=1)
        genuine.append((unit[own] @ unit[own].T)[pairs[0], pairs[1]])
    same = torch.cat(genuine)
    some = torch.linspace(0, len(labels) - 1, min(len(labels), _MOST_IMAGES)).long()
    cosines = (unit[some] @ unit[some].T)[labels[some][:, None] < labels[some]]
    bound = _percentile_999(cosines) if len(cosines) >= 1000 else None
    return Separation(
        mean_genuine_cosine=float(same.mean()) if len(same) else None,
        mean_impostor_cosine=float(cosines.mean()),
        impostor_cosine_999=bound,
        genuine_above=None if bound is None or not len(same) else float((same > bound).float().mean()),
    )


def _percentile_999(cosines: Tensor) -> float:
    """The value that one in a thousand exceeds; `torch.quantile` stops at 16 million numbers."""
    above = len(cosines) // 1000
    return float(cosines.topk(above + 1).values[-1])
