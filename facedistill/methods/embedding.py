"""The family of methods that compare each image's embedding with the teacher's."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from facedistill.distributed.collectives import global_mean
from facedistill.methods.identity import IdentityMethod
from facedistill.methods.several import cosines_by_teacher, mean_agreement, team_projections, weighted
from facedistill.types import FaceBatch, Requirements, StepOutput


class EmbeddingMethod(IdentityMethod):
    """L = weight · mean distance(F_S(x), F_T(x))  [+ identity_weight · margin softmax]; a subclass has the distance.

    With several teachers, the distance is the weighted mean of those to each (`facedistill.methods.several`).

    Args:
        weight: Weight of the distance, >= 0.
        identity_weight: Weight of the margin softmax; 0 makes the method label-free.
        **kwargs: Those of `IdentityMethod`.
    """

    requirements = Requirements(equal_widths=True, reports_agreement=True, several_teachers=True)
    term: ClassVar[str]
    """Name of the mean distance in the logs."""

    def __init__(self, *, weight: float = 1.0, identity_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        self.weight = weight
        self.projections = team_projections(self.student, self.teacher)

    @staticmethod
    @abstractmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """(N,) distances of (N, D) embeddings."""

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the terms are "identity" and `term`."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        compared = self.compared(student, teacher)
        terms[self.term] = global_mean(weighted(compared, self.distance))
        loss = self.total(terms, **{self.term: self.weight})
        return StepOutput(loss, terms | cosines_by_teacher(compared), mean_agreement(compared))
