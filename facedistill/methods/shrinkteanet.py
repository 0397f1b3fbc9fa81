"""ShrinkTeaNet (Duong et al., 2019): angles to the teacher, squared, beside the identity loss."""

from __future__ import annotations

from typing import Any

from facedistill.distributed.collectives import global_mean
from facedistill.losses.embedding import cosine_distances
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class ShrinkTeaNet(IdentityMethod):
    """L = identity_weight · margin softmax + weight · mean (1 - cos(F_S(x), F_T(x)))².

    The square forgives small angles and presses on large ones. The paper also compares intermediate layers
    (there with a lower weight); this is its embedding term, as in TFace's table. margindistillation's
    "angular distillation" leaves out the square: that is the method `cosine` with an identity weight of 1.

    Args:
        weight: Weight of the angular term, >= 0.
        identity_weight: Weight of the margin softmax; 0 makes the method label-free.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Duong et al., arXiv 1905.10620"
    requirements = Requirements(equal_widths=True, reports_agreement=True)

    def __init__(self, *, weight: float = 1.0, identity_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        self.weight = weight

    def distill(self, batch: FaceBatch) -> StepOutput:
        """See the class; the term is "angular"."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        terms["angular"] = global_mean(cosine_distances(student, teacher).square())
        return StepOutput(
            loss=self.total(terms, angular=self.weight), terms=terms, agreement=agreement(student, teacher)
        )
