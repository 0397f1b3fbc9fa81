"""The base class of methods that distill identity logits: the teacher's classifier, the margin, the ramp."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from torch import Tensor

from facedistill.distributed.collectives import global_mean
from facedistill.errors import ConfigError
from facedistill.losses.groups import WeightedTerms
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod, general_images
from facedistill.models.heads import MarginHead, ShardedHead
from facedistill.models.heads.teacher import TeacherHead
from facedistill.types import FaceBatch, Requirements, StepOutput


class LogitMethod(IdentityMethod):
    """L = identity_weight · (margin softmax) + weight · ramp · (divergence of the logits); a subclass has the last.

    The student's logits are those of its head. The teacher's come from `centers`, one per identity, under the
    same kind of head, frozen (`TeacherHead`): published teachers have no classifier, so this is not the authors'
    trained one. Images of a balanced part are in the divergence and not in the margin softmax.

    A subclass without `unsplit_logits` in its requirements also takes a sharded head: its `divergences` then get the
    columns of one process for the images of all, (W·N, K'), and return (W·N,).

    Args:
        head: The student's margin head, needed also where `identity_weight` is 0.
        centers: (K, D) teacher centers.
        weight: Weight of the divergence.
        temperature: Softmax divisor, > 0.
        margin_in_logits: Whether both logits have the margin in the label's column; else scale · cosine.
        ramp: Fraction of the budget over which the weight rises from 0, in [0, 1]; 0 for the full weight at once.
        ramp_steps: The weight rises in this many equal steps, one after each 1 / ramp_steps of the ramp: GKD's epochs.
            0 raises it continuously.
        ramp_first: Steps at the start: 0 begins without the divergence (GKD counts epochs from 0), 1 with
            1 / ramp_steps of it (DKD counts from 1).
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
        head: MarginHead | ShardedHead,
        centers: Tensor,
        weight: float = 1.0,
        temperature: float = 4.0,
        margin_in_logits: bool = True,
        ramp: float = 0.0,
        ramp_steps: int = 0,
        ramp_first: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(head=head, **kwargs)
        if temperature <= 0:
            raise ConfigError(f"method.temperature: expected a number above 0, got {temperature}")
        if not 0 <= ramp <= 1:
            raise ConfigError(f"method.ramp: expected a fraction of the budget in [0, 1], got {ramp}")
        if head.is_split and self.requirements.unsplit_logits:
            raise ConfigError(
                f"head: {type(self).__name__} needs the logits of all identities in each process, and "
                f"{type(head).__name__} splits them; choose another head, such as head=cosface"
            )
        if head.sample_rate < 1 and self.requirements.all_logits:
            raise ConfigError(
                f"head.sample_rate: {type(self).__name__} needs the logits of all identities, got {head.sample_rate}; "
                "set head.sample_rate=1"
            )
        self._set_head(head)  # also where identity_weight is 0
        self.teacher_head = TeacherHead(head, centers)
        self.weight = weight
        self.temperature = temperature
        self.margin_in_logits = margin_in_logits
        self.ramp = ramp
        self.ramp_steps = ramp_steps
        self.ramp_first = ramp_first

    def configure_model(self) -> None:
        """Splits a sharded head, and the teacher's with it."""
        super().configure_model()
        self.teacher_head.divide(self._logit_head.partition)

    @property
    def _logit_head(self) -> MarginHead | ShardedHead:
        assert isinstance(self.head, MarginHead | ShardedHead)
        return self.head

    @abstractmethod
    def divergences(self, student: Tensor, teacher: Tensor, labels: Tensor) -> WeightedTerms:
        """Named divergences per image, (N,) each, of (N, K) logits, with the weights they have in the sum."""

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are "identity" and the divergences, all without their weights."""
        assert batch.labels is not None
        head, partition = self._logit_head, self._logit_head.partition
        student, teacher = self.student(batch.images), self.teach(batch)
        margined, cosines, columns = head.head_logits(student, batch.labels)
        teacher_logits = self.teacher_head(teacher, batch.labels if self.margin_in_logits else None)
        terms = {}
        if self.identity_weight:
            identity = head.losses(student, margined, columns)
            general = general_images(batch)
            terms["identity"] = global_mean(identity if general is None else identity[general])
        compared = margined if self.margin_in_logits else head.scale * cosines
        labels = partition.gather_constant(batch.labels)
        weights = {}
        for name, (values, weight) in self.divergences(compared, teacher_logits, labels).items():
            terms[name] = global_mean(partition.own_rows(values))
            weights[name] = self.weight * self.rise * weight
        loss = self.total(terms, **weights)
        if not self.identity_weight:  # DDP requires every parameter, so UniFace's bias too
            loss = loss + sum(0.0 * p.sum() for p in head.parameters() if p is not head.unsplit.weight)
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    @property
    def rise(self) -> float:
        """The factor of the ramp at this progress, in [0, 1]."""
        if not self.ramp:
            return 1.0
        risen = self.progress / self.ramp
        if self.ramp_steps:
            risen = (math.floor(risen * self.ramp_steps + 1e-6) + self.ramp_first) / self.ramp_steps
        return min(1.0, risen)
