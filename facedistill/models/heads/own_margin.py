"""What the heads of this package share: a margin that looks at the cosine with the image's own center."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant
from facedistill.errors import ConfigError
from facedistill.losses.margins import own_cosines, replace_own
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.base import MarginHead

Reduce = Callable[[Tensor], Tensor]


class OwnMarginHead(MarginHead):
    """A margin head in parts, so that a sharded head can compute each part where its columns are.

    A subclass writes `own_margin`, and where it needs them `other_margin`, `observe` and `regularizer`. Statistics
    are buffers: `observe` moves them in training only, from the whole global batch, whenever a margin is applied.

    Args:
        num_identities: K.
        embedding_dim: D.
        scale: Factor from cosine to logit, > 0.
        init_std: Standard deviation of the initial weight.
        sub_centers: C centers per identity, of which the nearest counts (Deng et al., Sub-center ArcFace, ECCV 2020).

    Attributes:
        weight: (K·C, D) centers, those of one identity side by side.
    """

    def __init__(
        self, *, num_identities: int, embedding_dim: int, scale: float = 64.0, init_std: float = 0.01,
        sub_centers: int = 1,
    ) -> None:  # fmt: skip
        if sub_centers < 1:
            raise ConfigError(f"head.sub_centers: an identity needs at least 1 center, got {sub_centers}")
        super().__init__(
            num_identities=num_identities * sub_centers, embedding_dim=embedding_dim, scale=scale, init_std=init_std
        )  # fmt: skip
        self.num_identities = num_identities
        self.sub_centers = sub_centers

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(N, D) embeddings of any norm to (N, K) cosines in [-1, 1], float32 or better, outside autocast."""
        return self.cosines_to(embeddings, self.weight)

    def cosines_to(self, embeddings: Tensor, weight: Tensor) -> Tensor:
        """(N, K') cosines with the centers `weight` (K'·C, D); norms below 1e-6 count as 1e-6."""
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = at_least_float32(embeddings)
            unit = F.normalize(embeddings, eps=1e-6)
            cosines = F.linear(unit, F.normalize(weight.to(embeddings.dtype), eps=1e-6))
        if self.sub_centers == 1:
            return cosines
        return cosines.unflatten(1, (-1, self.sub_centers)).max(2).values

    def with_margin(self, cosines: Tensor, labels: Tensor, embeddings: Tensor) -> Tensor:
        """Applies the margin to cosines (N, K), after moving the statistics in training."""
        own = own_cosines(cosines, labels)
        if self.training and type(self).observe is not OwnMarginHead.observe:
            norms = torch.linalg.vector_norm(at_least_float32(embeddings.detach()), dim=1)
            self.observe(gather_constant(own), gather_constant(norms))
        return replace_own(self.other_margin(cosines, own), labels, self.own_margin(own, embeddings))

    def own_margin(self, own: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cosines with the own center to margined ones."""
        raise NotImplementedError

    def other_margin(self, cosines: Tensor, own: Tensor) -> Tensor:
        """(N, K') cosines of any columns, given the own cosines (N,) without margin."""
        return cosines

    @torch.no_grad()
    def observe(self, own: Tensor, norms: Tensor) -> None:
        """Moves the statistics by the own cosines and embedding norms (N,) of the global batch."""

    def regularizer(self, embeddings: Tensor) -> Tensor | None:
        """What the head adds per image, (N,)."""
        return None

    def losses(self, logits: Tensor, columns: Tensor, total: Reduce, highest: Reduce) -> Tensor:
        """(N,) losses from the share of the columns that one process holds.

        Args:
            logits: (N, K') margined logits of these columns.
            columns: (N,) the own identity's column among these, -1 where another process holds it.
            total: Sum of (N,) over the processes, with gradient.
            highest: Maximum of (N,) over the processes, without gradient.
        """
        peak = highest(logits.detach().amax(1))
        mass = total((logits - peak.unsqueeze(1)).exp().sum(1))
        own = own_cosines(logits, columns.clamp(min=0))
        return mass.log() + peak - total(torch.where(columns >= 0, own, 0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss per image, (N,)."""
        losses = self._plain_losses(self.logits(embeddings, labels), labels)
        extra = self.regularizer(embeddings)
        return losses if extra is None else losses + extra

    def _plain_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def freeze(self, centers: Tensor) -> None:
        """Puts given centers (K, D) in place of learned ones, for good.

        Raises:
            ConfigError: If there are several centers per identity, or the widths differ.
        """
        self.weight = nn.Parameter(fitting(centers, self), requires_grad=False)


def fitting(centers: Tensor, head: OwnMarginHead) -> Tensor:
    """A copy of the centers (K, D) if they can be `head`'s."""
    if head.sub_centers != 1:
        raise ConfigError(
            f"head.sub_centers: the teacher has 1 center per identity, got {head.sub_centers}; set 1"
        )
    if centers.shape[1] != head.embedding_dim:
        raise ConfigError(
            f"backbone.embedding_dim: the teacher's centers are {centers.shape[1]} wide, the student's embedding "
            f"{head.embedding_dim}; set backbone.embedding_dim={centers.shape[1]}"
        )
    assert len(centers) == head.num_identities
    return centers.detach().clone().to(head.weight)
