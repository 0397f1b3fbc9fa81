"""What every margin head promises."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MarginHead(nn.Module):
    """From embeddings to identity logits through K centers; used in training only.

    logits_ij = scale · margin(cos(embedding_i, center_j)), where the margin touches the column of the image's own
    identity, or, in some heads, hard columns too.

    Args:
        num_identities: K.
        embedding_dim: D.
        scale: Factor from cosine to logit, > 0.
        init_std: Standard deviation of the initial weight; only its direction matters to the logits.

    Attributes:
        weight: (K, D) centers, un-normalized, learned.
        is_split: Whether each process has the centers of a part of the identities only.
    """

    is_split: ClassVar[bool] = False

    def __init__(
        self, *, num_identities: int, embedding_dim: int, scale: float = 64.0, init_std: float = 0.01
    ) -> None:
        super().__init__()
        self.num_identities = num_identities
        self.embedding_dim = embedding_dim
        self.scale = scale
        self.weight = nn.Parameter(init_std * torch.randn(num_identities, embedding_dim))

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(N, D) embeddings of any norm to (N, K) cosines in [-1, 1], float32 or better, outside autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings if embeddings.dtype.itemsize >= 4 else embeddings.float()
            return F.linear(F.normalize(embeddings, eps=1e-6), F.normalize(self.weight.to(embeddings.dtype)))

    def logits(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, K) logits; with `labels` (N,) the margin is in them, without it is not."""
        cosines = self.cosines(embeddings)
        if labels is None:
            return self.scale * cosines
        return self.scale * self.with_margin(cosines, labels, embeddings)

    def with_margin(self, cosines: Tensor, labels: Tensor, embeddings: Tensor) -> Tensor:
        """Applies the margin to cosines (N, K); `embeddings` are there for heads that look at norms."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy per image, (N,), plus whatever the head adds to it per image."""
        return F.cross_entropy(self.logits(embeddings, labels), labels, reduction="none")
