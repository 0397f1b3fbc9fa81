"""The thresholds that EKD's ranks count, followed through training in buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import in_sample_order
from facedistill.losses.ranks import ROUNDING, ScoredPairs, thresholds_at


class RankThresholds(nn.Module):
    """One threshold per false accept rate and network, moved towards those of each gathered batch.

    t <- momentum · t + (1 - momentum) · t_batch, from 0 (methods' section 2.2, step 1). From 0 it takes about 460
    batches to 99 % of the way. In the released code the buffers are in no checkpoint; here they are.

    With a queue, t_batch comes from the impostor pairs within the batch and from those between the batch
    and the embeddings of earlier ones, which no paper has: FAR 1e-6 can then be measured on one device.

    Args:
        fars: A false accept rates, fractions.
        momentum: In [0, 1).
        warm_start: Whether the first batch sets the thresholds instead of moving them from 0.
        queue_size: Q embeddings of earlier batches in the queue; 0 for no queue.
        student_dim: Embedding width of the student; used by the queue only.
        teacher_dim: Embedding width of the teacher; used by the queue only.

    Attributes:
        student: (A,) thresholds of the student.
        teacher: (A,) thresholds of the teacher.
    """

    student: Tensor
    teacher: Tensor
    updates: Tensor
    queue_student: Tensor
    queue_teacher: Tensor
    queue_labels: Tensor
    queue_place: Tensor

    def __init__(
        self,
        fars: Sequence[float],
        *,
        momentum: float = 0.99,
        warm_start: bool = False,
        queue_size: int = 0,
        student_dim: int = 0,
        teacher_dim: int = 0,
    ) -> None:
        super().__init__()
        self.fars = tuple(fars)
        self.momentum = momentum
        self.warm_start = warm_start
        self.queue_size = queue_size
        self.register_buffer("student", torch.zeros(len(fars)))
        self.register_buffer("teacher", torch.zeros(len(fars)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        if queue_size:
            self.register_buffer("queue_student", torch.zeros(queue_size, student_dim))
            self.register_buffer("queue_teacher", torch.zeros(queue_size, teacher_dim))
            self.register_buffer("queue_labels", torch.full((queue_size,), -1))  # -1: empty
            self.register_buffer("queue_place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, pairs: ScoredPairs, num_hardest: int) -> tuple[Tensor, Tensor]:
        """Updates the thresholds from one gathered batch; a batch without an impostor pair changes nothing.

        Args:
            pairs: Of the gathered batch, so that all processes update alike.
            num_hardest: How many of the hardest impostors are wanted.

        Returns:
            (H,) indices of the student's hardest impostors among the P pairs, H = min(num_hardest, P), and ()
            the number of impostor pairs that the thresholds were taken from.
        """
        ours, theirs = pairs.impostor_scores(pairs.student), pairs.impostor_scores(pairs.teacher)
        count = len(pairs.genuine) - pairs.genuine.sum()
        reach = self._reach(len(ours))
        top = ours.topk(min(max(reach, num_hardest), len(ours)))
        descending = top.values
        if self.queue_size:
            beyond = (pairs.labels[:, None] != self.queue_labels) & (self.queue_labels >= 0)
            count = count + beyond.sum()
            ours = torch.cat([ours, _impostors(pairs.unit, self.queue_student, beyond)])
            theirs = torch.cat([theirs, _impostors(pairs.teacher_unit, self.queue_teacher, beyond)])
            reach = self._reach(len(ours))
            descending = ours.topk(min(reach, len(ours))).values
        if len(ours):
            highest = (("student", descending), ("teacher", theirs.topk(min(reach, len(theirs))).values))
            for name, values in highest:
                self._move(name, thresholds_at(values, count, self.fars), count)
            self.updates += (count > 0).long()
        if self.queue_size:
            self._remember(pairs)
        return top.indices[:num_hardest], count

    def unresolved(self, num_impostors: int) -> list[float]:
        """The rates below one impostor pair in `num_impostors`."""
        return [far for far in self.fars if num_impostors * far * ROUNDING < 1]

    def _reach(self, num_scores: int) -> int:
        return int(num_scores * max(self.fars) * ROUNDING) + 1

    def _move(self, name: str, measured: Tensor, count: Tensor) -> None:
        old = getattr(self, name)
        started = (self.updates > 0).to(old.dtype) if self.warm_start else 1.0
        momentum = started * self.momentum
        old.copy_(torch.where(count > 0, momentum * old + (1 - momentum) * measured, old))

    def _remember(self, pairs: ScoredPairs) -> None:
        kept = pairs.unit.detach(), pairs.teacher_unit, pairs.labels
        unit, teacher_unit, labels = (in_sample_order(gathered)[-self.queue_size :] for gathered in kept)
        places = (self.queue_place + torch.arange(len(labels), device=labels.device)) % self.queue_size
        self.queue_student[places] = unit.to(self.queue_student.dtype)
        self.queue_teacher[places] = teacher_unit.to(self.queue_teacher.dtype)
        self.queue_labels[places] = labels
        self.queue_place.copy_((self.queue_place + len(labels)) % self.queue_size)


def _impostors(unit: Tensor, queue: Tensor, beyond: Tensor) -> Tensor:
    with torch.autocast(unit.device.type, enabled=False):
        return (unit @ queue.to(unit.dtype).T).masked_fill(~beyond, -torch.inf).flatten()
