"""The base class of margin heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.losses.margins import replace_target, target_cosines
from facedistill.losses.precision import at_least_float32


def require_equal_widths(student: int, teacher: int) -> None:
    """Raises ConfigError if the student's embedding is not as wide as the teacher's, or as its centers."""
    if student != teacher:
        raise ConfigError(
            f"backbone.embedding_dim: the teacher is {teacher} wide, the student's embedding {student}; "
            f"set backbone.embedding_dim={teacher}"
        )


class HeadLogits(NamedTuple):
    """Logits of the identities that this process holds: R rows and K' columns, see `Partition`.

    Attributes:
        margined: (R, K') with the margin in the target column.
        cosines: (R, K') without scale and margin.
        columns: (R,) target column of each row, -1 where another process holds it.
    """

    margined: Tensor
    cosines: Tensor
    columns: Tensor


class MarginHead(nn.Module):
    """From embeddings to identity logits through K centers; used in training only.

    logits_ij = scale · margin(cos(embedding_i, center_j)), where the margin changes the target column, that of the
    image's own identity, or, in some heads, hard columns too.

    A subclass implements `target_margin`, and if needed `other_margin`, `observe` and `regularizer`. Statistics are
    buffers: `observe` updates them from the global batch whenever a margin is applied in training mode.

    Args:
        num_identities: K.
        embedding_dim: D.
        scale: Factor from cosine to logit, > 0.
        init_std: Standard deviation of the initial weight; only its direction matters to the logits.
        sub_centers: C centers per identity, of which the nearest counts (Deng et al., Sub-center ArcFace, ECCV 2020).

    Attributes:
        weight: (K·C, D) centers, not normalized, learned; those of one identity are adjacent.
        partition: The identities that this process holds; all of them, unless `ShardedHead` splits the head.
        is_split: Whether each process has the centers of a part of the identities only.
        sample_rate: Fraction of the identities in a training step.
        unaveraged: Names of parameters that differ between processes, which DDP must ignore.
    """

    is_split: ClassVar[bool] = False
    sample_rate: float = 1.0
    unaveraged: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, *, num_identities: int, embedding_dim: int, scale: float = 64.0, init_std: float = 0.01,
        sub_centers: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if sub_centers < 1:
            raise ConfigError(f"head.sub_centers: an identity needs at least 1 center, got {sub_centers}")
        self.num_identities = num_identities
        self.embedding_dim = embedding_dim
        self.scale = scale
        self.sub_centers = sub_centers
        self.partition = Partition.whole(num_identities)
        self.weight = nn.Parameter(init_std * torch.randn(num_identities * sub_centers, embedding_dim))

    @property
    def unsplit(self) -> MarginHead:
        """The head that has the margin: this one; a `ShardedHead` has it inside."""
        return self

    def divide(self) -> None:
        """Splits the identities over the processes; does nothing for a head that is not split."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss per image of this process, (N,), from its embeddings (N, D) and labels (N,)."""
        margined, cosines, columns = self.head_logits(embeddings, labels)
        del cosines  # frees memory before the loss needs it
        return self.losses(embeddings, margined, columns)

    def head_logits(
        self, embeddings: Tensor, labels: Tensor,
        sample: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> HeadLogits:  # fmt: skip
        """Logits in training, from this process's embeddings (N, D) and labels (N,) in [0, K).

        `sample` chooses some of the centers (K'·C, D) and renumbers the target columns (R,).
        """
        rows = self.partition.gather(at_least_float32(embeddings))
        columns = self.partition.columns(self.partition.gather_constant(labels))
        weight = self.partition.divided(self.weight)
        if sample is not None:
            weight, columns = sample(weight, columns)
        cosines = self.cosines_to(rows, weight)
        return HeadLogits(self.scale * self.with_margin(cosines, columns, rows), cosines, columns)

    def losses(self, embeddings: Tensor, margined: Tensor, columns: Tensor) -> Tensor:
        """`forward`, given the `head_logits` of the same embeddings (N, D)."""
        losses = self.partition.own_rows(self.row_losses(margined, columns))
        extra = self.regularizer(embeddings)
        return losses if extra is None else losses + extra

    def row_losses(self, logits: Tensor, columns: Tensor) -> Tensor:
        """Softmax cross entropy (R,) of margined logits (R, K') and target columns (R,).

        With several parts it is log(sum_j exp(z_j - m)) + m - z_y with m = max_j z_j. The maximum, the sum and z_y
        are (R,) numbers that are reduced over the parts; no process needs the logits of another.
        """
        if self.partition.is_whole:
            return F.cross_entropy(logits, columns, reduction="none")
        peak = self.partition.largest(logits.detach().amax(1))
        mass = self.partition.total((logits - peak.unsqueeze(1)).exp().sum(1))
        return mass.log() + peak - self._target(logits, columns)

    def logits(self, embeddings: Tensor, columns: Tensor | None = None) -> Tensor:
        """(R, D) embeddings to (R, K') logits; with target `columns` (R,) the margin is in them."""
        cosines = self.cosines(embeddings)
        return self.scale * (cosines if columns is None else self.with_margin(cosines, columns, embeddings))

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(N, D) embeddings of any norm to (N, K') cosines in [-1, 1], float32 or better, outside autocast."""
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

    def with_margin(self, cosines: Tensor, columns: Tensor, embeddings: Tensor) -> Tensor:
        """Applies the margin to cosines (R, K'), after updating the statistics in training mode.

        Args:
            cosines: (R, K') with the centers of this process.
            columns: (R,) target column, -1 where another process holds it.
            embeddings: (R, D), for heads that use their norms.
        """
        target = self._target(cosines, columns)
        if self.training and type(self).observe is not MarginHead.observe:
            norms = torch.linalg.vector_norm(at_least_float32(embeddings.detach()), dim=1)
            self.observe(*map(self.partition.global_batch, (target, norms)))
        others, margined = self.other_margin(cosines, target), self.target_margin(target, embeddings)
        if self.partition.is_whole:
            return replace_target(others, columns, margined)
        # Rows whose target is elsewhere write the value of column 0 back into column 0.
        here, safe = columns >= 0, columns.clamp(min=0)
        return replace_target(others, safe, torch.where(here, margined, target_cosines(others, safe)))

    def _target(self, values: Tensor, columns: Tensor) -> Tensor:
        """(R,) the value in the target column; the one process that holds the column adds it to the sum."""
        own = target_cosines(values, columns.clamp(min=0))
        return self.partition.total(torch.where(columns >= 0, own, 0))

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(R,) cosines with the target center to margined ones."""
        raise NotImplementedError

    def other_margin(self, cosines: Tensor, target: Tensor) -> Tensor:
        """(R, K') cosines of any columns, given the target cosines (R,) without margin."""
        return cosines

    @torch.no_grad()
    def observe(self, target: Tensor, norms: Tensor) -> None:
        """Updates the statistics from the target cosines and embedding norms (N,) of the global batch."""

    def regularizer(self, embeddings: Tensor) -> Tensor | None:
        """What the head adds to the loss of each image, (N,)."""
        return None

    def freeze(self, centers: Tensor) -> None:
        """Replaces the learned centers by given ones (K, D), which do not learn.

        Raises:
            ConfigError: If there are several centers per identity, or the widths differ.
        """
        if self.sub_centers != 1:
            raise ConfigError(
                f"head.sub_centers: the teacher has 1 center per identity, got {self.sub_centers}; set 1"
            )
        require_equal_widths(self.embedding_dim, centers.shape[1])
        assert len(centers) == self.num_identities
        own = self.partition.split(centers.detach()).to(self.weight)
        self.weight = nn.Parameter(own, requires_grad=False)
