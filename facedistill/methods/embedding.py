"""The family of methods that compare each image's embedding with the teacher's."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from facedistill.distributed.collectives import global_mean
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class EmbeddingMethod(IdentityMethod):
    """L = weight · mean distance(F_S(x), F_T(x))  [+ identity_weight · margin softmax]; a subclass has the distance.

    Args:
        weight: Weight of the distance, >= 0.
        identity_weight: Weight of the margin softmax; 0 makes the method label-free.
        **kwargs: Those of `IdentityMethod`.
    """

    requirements = Requirements(equal_widths=True, reports_agreement=True)
    term: ClassVar[str]
    """Name of the mean distance in the logs."""

    def __init__(self, *, weight: float = 1.0, identity_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        self.weight = weight

    @staticmethod
    @abstractmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """(N,) distances of (N, D) embeddings."""

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the terms are "identity" and `term`."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        terms[self.term] = global_mean(self.distance(student, teacher))
        loss = self.total(terms, **{self.term: self.weight})
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))
