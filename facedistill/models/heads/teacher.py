"""A frozen classifier for a teacher that was published without one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.base import MarginHead
from facedistill.models.heads.sharded import ShardedHead


class TeacherHead(nn.Module):
    """The teacher's identity logits, from centers and the kind of head that the student has.

    z_ij = scale · margin(cos(teacher_i, center_j)). The head is a copy of the student's with `centers` as its
    weight. It is held outside torch's registry of submodules, as a frozen teacher is: the centers follow from
    the teacher and the training set, so they are in no checkpoint, and optimizers and DDP do not see them. They are
    computed again (the same bits) when a run is resumed. A head with statistics of its own (CurricularFace, AdaFace)
    keeps those it was built with. The teacher's head has one center per identity, however many the student's has.

    Args:
        head_like: The student's head; its width may differ from the teacher's.
        centers: (K, D) directions, one per identity, of any norm > 0; D is the teacher's.

    Attributes:
        head: The frozen head, in eval mode, with the identities that the student's head has in this process.

    Raises:
        ConfigError: If there are not K centers.
    """

    head: MarginHead

    def __init__(self, head_like: MarginHead | ShardedHead, centers: Tensor) -> None:
        super().__init__()
        if len(centers) != head_like.num_identities:
            raise ConfigError(
                f"teacher centers: the head has {head_like.num_identities} identities, "
                f"and there are {len(centers)} centers; make them from the same training set"
            )
        weight = nn.Parameter(centers.detach().clone(), requires_grad=False)
        head = copy.deepcopy(head_like.unsplit, {id(head_like.unsplit.weight): weight})
        head.embedding_dim, head.sub_centers = centers.shape[1], 1
        head.partition = Partition.whole(len(centers))
        object.__setattr__(self, "head", head.eval().requires_grad_(False))
        self.divide(head_like.partition)
        self.eval()

    def divide(self, partition: Partition) -> None:
        """Keeps the centers of a part of the identities, that of the student's head."""
        if partition != self.head.partition:
            self.head.partition = partition
            own = partition.split(self.head.weight.detach())
            self.head.weight = nn.Parameter(own, requires_grad=False)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """Teacher embeddings (N, D) of any norm > 0 to logits (N, K), without gradient.

        A split head gives this process's columns for the images of all processes, (W·N, K'). With `labels` (N,) the
        margin is in the logits, as in GKD's released code; without labels it is not.
        """
        partition = self.head.partition
        rows = partition.gather_constant(at_least_float32(embeddings))
        columns = None if labels is None else partition.columns(partition.gather_constant(labels))
        return self.head.logits(rows, columns)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever `mode` is."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        device = fn(torch.empty(0, device=self.head.weight.device)).device
        if device.type != "meta":
            self.head.to(device)
        return super()._apply(fn, recurse)
