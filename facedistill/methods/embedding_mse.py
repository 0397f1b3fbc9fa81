"""Raw embeddings of the student follow those of the teacher: the plainest distillation."""

from __future__ import annotations

from typing import Any

from facedistill.distributed.collectives import global_mean
from facedistill.losses.embedding import squared_errors
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class EmbeddingMSE(IdentityMethod):
    """The vanilla control of AdaDistill's and TFace's tables (where it is called FitNet).

    L = weight · 1 / (N·D) · sum (F_S(x) - F_T(x))²  [+ identity_weight · margin softmax]

    On un-normalized embeddings, so the student learns the teacher's norms too. SynthDistill's objective is this
    one, on rendered faces.

    Args:
        weight: Weight of the squared error, >= 0.
        identity_weight: Weight of the margin softmax; 0 makes the method label-free.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "baseline; released with Huang et al., CVPR 2022"
    requirements = Requirements(equal_widths=True, reports_agreement=True)

    def __init__(self, *, weight: float = 1.0, identity_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        self.weight = weight

    def distill(self, batch: FaceBatch) -> StepOutput:
        """See the class; the term is "mse"."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        terms["mse"] = global_mean(squared_errors(student, teacher))
        return StepOutput(
            loss=self.total(terms, mse=self.weight), terms=terms, agreement=agreement(student, teacher)
        )
