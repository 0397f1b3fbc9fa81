"""Directions of the student's embeddings follow those of the teacher."""

from __future__ import annotations

from typing import Any

from facedistill.distributed.collectives import global_mean
from facedistill.losses.embedding import cosine_distances
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class Cosine(IdentityMethod):
    """The strong simple control: a user of TFace reports that it beats CurricularFace + EKD (issue 81).

    L = weight · mean (1 - cos(F_S(x), F_T(x)))  [+ identity_weight · margin softmax]

    That is half the squared distance of unit embeddings, so its weight is twice that of ‖s - t‖² (VarGFaceNet:
    7 there is 14 here).

    Args:
        weight: Weight of the distance, >= 0.
        identity_weight: Weight of the margin softmax; 0 makes the method label-free.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "baseline; Yan et al., ICCVW 2019"
    requirements = Requirements(equal_widths=True, reports_agreement=True)

    def __init__(self, *, weight: float = 1.0, identity_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        self.weight = weight

    def distill(self, batch: FaceBatch) -> StepOutput:
        """See the class; the term is "cosine_distance"."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        terms["cosine_distance"] = global_mean(cosine_distances(student, teacher))
        loss = self.total(terms, cosine_distance=self.weight)
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))
