"""What methods that distill identity logits share: the teacher's classifier, the margin in the logits, the ramp."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from facedistill.distributed.collectives import gather_constant, global_mean
from facedistill.errors import ConfigError
from facedistill.methods.identity import IdentityMethod
from facedistill.models.heads.own_margin import OwnMarginHead
from facedistill.models.heads.sharded import ShardedHead
from facedistill.models.heads.teacher import ShardedTeacherHead, TeacherHead
from facedistill.types import FaceBatch, Requirements, StepOutput


class LogitMethod(IdentityMethod):
    """L = identity_weight · (margin softmax) + weight · ramp · (divergence of the logits); a subclass has the last.

    The student's logits are those of its head. The teacher's come from `centers`, one per identity, under the
    same kind of head, frozen (`TeacherHead`): published teachers have no classifier, so this is not the authors'
    trained one. Images of a balanced part are in the divergence and not in the margin softmax.

    A subclass without `unsplit_logits` in its requirements also takes a sharded head: its `divergences` then get the columns of one process for the
    images of all, (W·N, K'), and give (W·N,).

    Args:
        head: The student's margin head, needed whatever `identity_weight`.
        centers: (K, D) teacher centers.
        weight: Weight of the divergence.
        temperature: Softmax divisor, > 0.
        margin_in_logits: Whether both logits have the margin in the label's column; else scale · cosine.
        ramp: Fraction of the budget over which the weight rises from 0, in [0, 1]; 0 has it whole at once.
        ramp_steps: The weight rises in this many equal steps, the first of them after 1 / ramp_steps of the ramp;
            GKD's epochs are such steps. 0 raises it continuously.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If a value is out of range, or the head does not have all logits.
    """

    requirements = Requirements(
        labels=True,
        class_centers=True,
        head=True,
        all_logits=True,
        unsplit_logits=True,
        reports_agreement=True,
    )

    def __init__(
        self,
        *,
        head: OwnMarginHead | ShardedHead,
        centers: Tensor,
        weight: float = 1.0,
        temperature: float = 4.0,
        margin_in_logits: bool = True,
        ramp: float = 0.0,
        ramp_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(head=head, **kwargs)
        if temperature <= 0:
            raise ConfigError(f"method.temperature: expected a number above 0, got {temperature}")
        if not 0 <= ramp <= 1:
            raise ConfigError(f"method.ramp: expected a fraction of the budget in [0, 1], got {ramp}")
        if not isinstance(head, OwnMarginHead) and (
            self.requirements.unsplit_logits or not isinstance(head, ShardedHead)
        ):
            raise ConfigError(
                f"head: {type(self).__name__} needs the logits of all identities in each process, and "
                f"{type(head).__name__} splits them; choose another head, such as head=cosface"
            )
        if isinstance(head, ShardedHead) and head.sample_rate < 1:
            raise ConfigError(
                f"head.sample_rate: {type(self).__name__} needs the logits of all identities, got {head.sample_rate}; "
                "set head.sample_rate=1"
            )
        self.head = head  # also where identity_weight is 0
        self._ddp_params_and_buffers_to_ignore = [f"head.{name}" for name in getattr(head, "unaveraged", ())]
        self.teacher_head = (
            ShardedTeacherHead(head, centers) if isinstance(head, ShardedHead) else TeacherHead(head, centers)
        )
        self.weight = weight
        self.temperature = temperature
        self.margin_in_logits = margin_in_logits
        self.ramp = ramp
        self.ramp_steps = ramp_steps

    def configure_model(self) -> None:
        """Divides a sharded head, and the teacher's alike."""
        super().configure_model()
        if isinstance(self.head, ShardedHead):
            assert isinstance(self.teacher_head, ShardedTeacherHead)
            self.teacher_head.divide(self.head)

    @abstractmethod
    def divergences(
        self, student: Tensor, teacher: Tensor, labels: Tensor
    ) -> dict[str, tuple[Tensor, float]]:
        """Named divergences per image, (N,) each, of (N, K) logits, with the weights they have in the sum."""

    def distill(self, batch: FaceBatch) -> StepOutput:
        """See the class; terms are "identity" and the divergences, all without their weights."""
        assert batch.labels is not None
        student, teacher = self.student(batch.images), self.teach(batch)
        logits, identity = self._student_logits(student, batch.labels)
        if batch.balanced is not None:
            identity = identity[~batch.balanced]
        terms = {"identity": global_mean(identity)} if self.identity_weight else {}
        teacher_logits = self.teacher_head(teacher, batch.labels if self.margin_in_logits else None)
        split = isinstance(self.head, ShardedHead)
        labels = gather_constant(batch.labels) if split else batch.labels
        weights = {}
        for name, (values, weight) in self.divergences(logits, teacher_logits, labels).items():
            terms[name] = global_mean(ShardedHead.own_images(values) if split else values)
            weights[name] = self.weight * self.rise * weight
        agreement = (
            torch.cosine_similarity(student.detach().float(), teacher.float())
            if student.shape == teacher.shape
            else None
        )
        return StepOutput(loss=self.total(terms, **weights), terms=terms, agreement=agreement)

    @property
    def rise(self) -> float:
        """Where the ramp stands, in [0, 1]."""
        if not self.ramp:
            return 1.0
        risen = min(1.0, self.progress / self.ramp)
        return math.floor(risen * self.ramp_steps + 1e-6) / self.ramp_steps if self.ramp_steps else risen

    def _student_logits(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K) logits that are compared, and (N,) the head's own losses, from one product with the centers."""
        if isinstance(self.head, ShardedHead):
            margined, cosines, columns = self.head.share_logits(embeddings, labels)
            compared = margined if self.margin_in_logits else self.head.scale * cosines
            return compared, self.head.losses(embeddings, margined, columns)
        assert isinstance(self.head, OwnMarginHead)
        cosines = self.head.cosines(embeddings)
        margined = self.head.scale * self.head.with_margin(cosines, labels, embeddings)
        losses = self.head.losses(margined, labels, _alone, _alone)
        extra = self.head.regularizer(embeddings)
        identity = losses if extra is None else losses + extra
        return margined if self.margin_in_logits else self.head.scale * cosines, identity


def _alone(values: Tensor) -> Tensor:
    return values
