"""A frozen classifier for a teacher that was published without one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant
from facedistill.errors import ConfigError
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.own_margin import OwnMarginHead
from facedistill.models.heads.sharded import ShardedHead, share_columns, share_margin


class TeacherHead(nn.Module):
    """The teacher's identity logits, from centers and the kind of head that the student has.

    z_ij = scale · margin(cos(teacher_i, center_j)). The head is a copy of the student's with `centers` for its
    weight. It is held outside torch's registry of submodules, as a frozen teacher is: the centers follow from
    the teacher and the training set, so no checkpoint keeps them, no optimizer sees them and no process
    broadcasts them. They are derived again (the same bits) when a run is resumed. A head with state of its own
    (CurricularFace, AdaFace) keeps the state that it was built with. Whatever the student's head has, the teacher's has
    one center per identity.

    Args:
        head_like: The student's head; its width may differ from the teacher's.
        centers: (K, D) directions, one per identity, of any norm > 0; D is the teacher's.

    Attributes:
        head: The frozen head, in eval mode.

    Raises:
        ConfigError: If there are not K centers.
    """

    head: OwnMarginHead

    def __init__(self, head_like: OwnMarginHead, centers: Tensor) -> None:
        super().__init__()
        if len(centers) != head_like.num_identities:
            raise ConfigError(
                f"teacher centers: the head has {head_like.num_identities} identities, "
                f"and there are {len(centers)} centers; make them from the same training set"
            )
        weight = nn.Parameter(centers.detach().clone(), requires_grad=False)
        head = copy.deepcopy(head_like, {id(head_like.weight): weight})
        head.embedding_dim, head.sub_centers = centers.shape[1], 1
        object.__setattr__(self, "head", head.eval().requires_grad_(False))
        self.eval()

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, D) teacher embeddings of any norm > 0 to (N, K) logits, without gradient.

        With `labels` (N,) the margin is in them, as in GKD's released code; without it is not.
        """
        return self.head.logits(embeddings, labels)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever a parent asks."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        device = fn(torch.empty(0, device=self.head.weight.device)).device
        if device.type != "meta":
            self.head.to(device)
        return super()._apply(fn, recurse)


class ShardedTeacherHead(TeacherHead):
    """`TeacherHead` for a student whose identities are split: this process's columns for the images of all processes.

    Args:
        head_like: The student's head.
        centers: (K, D) those of all identities, of which this process's are kept.
    """

    def __init__(self, head_like: ShardedHead, centers: Tensor) -> None:
        super().__init__(head_like.share, centers)
        self.first, self.last = 0, len(centers)
        self.divide(head_like)

    def divide(self, head_like: ShardedHead) -> None:
        """Keeps those of the whole centers that the student's head has in this process."""
        if (self.first, self.last) == (head_like.first, head_like.last):
            return
        self.first, self.last = head_like.first, head_like.last
        own = self.head.weight.detach()[self.first : self.last].clone()
        self.head.weight = nn.Parameter(own, requires_grad=False)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, D) and (N,) of this process to (W·N, K') logits, without gradient; `labels` put the margin in."""
        everyone = gather_constant(at_least_float32(embeddings))
        cosines = self.head.cosines(everyone)
        if labels is not None:
            columns = share_columns(gather_constant(labels), self.first, self.last)
            cosines = share_margin(self.head, cosines, columns, everyone)
        return self.head.scale * cosines
