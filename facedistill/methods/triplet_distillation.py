"""TripletDistillation (Feng et al., ICIP 2020): triplet margins from the teacher's distances."""

from __future__ import annotations

from typing import Any

from facedistill.distributed.collectives import gather, gather_constant
from facedistill.losses.triplets import Distance, triplet_distillation
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class TripletDistillation(IdentityMethod):
    """L = identity_weight · margin softmax + weight · triplet hinge, see `facedistill.losses.triplets`.

    Triplets come from the gathered batch, which should hold several images per identity (the balanced sampler).
    A batch without a triplet has no such term. The released code fine-tunes a student that was trained with
    ArcFace, on triplets alone (learning rate 0.001, 18 images per identity, 180 per batch), selected from
    a bag of 7,200 images ahead of the step.

    Args:
        weight: Weight of the triplets, >= 0.
        min_margin: Smallest margin; 0.2 released.
        max_margin: Largest margin; 0.5 released.
        reach: Semi-hard negatives are at most this much further than the positive; 0.35 released.
        distance: "squared" of unit embeddings or "angle" in radians; both released.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Feng et al., ICIP 2020"
    requirements = Requirements(labels=True, reports_agreement=True)

    def __init__(
        self,
        *,
        weight: float = 1.0,
        min_margin: float = 0.2,
        max_margin: float = 0.5,
        reach: float = 0.35,
        distance: Distance = "squared",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.settings: dict[str, Any] = {
            "min_margin": min_margin,
            "max_margin": max_margin,
            "reach": reach,
            "distance": distance,
        }

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the term is "triplet", absent where the batch has none."""
        assert batch.labels is not None
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        triplet = triplet_distillation(
            gather(student), gather_constant(teacher), gather_constant(batch.labels), **self.settings
        )
        if triplet is not None:
            terms["triplet"] = triplet
        loss = self.total(terms, triplet=self.weight) if terms else 0.0 * student.sum()
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))
