"""SynthDistill (Otroshi Shahreza, George, Marcel; IJCB 2023): no real image, no label."""

from __future__ import annotations

from typing import Any, Literal

import torch

from facedistill.distributed.collectives import global_mean
from facedistill.losses.embedding import cosine_distances, squared_errors
from facedistill.methods.base import DistillationMethod
from facedistill.methods.several import cosines_by_teacher, mean_agreement, team_projections, weighted
from facedistill.types import FaceBatch, Requirements, StepOutput


class SynthDistill(DistillationMethod):
    """Raw embeddings of the student follow those of the teacher on rendered faces.

    L = MSE(F_S(x), F_T(x)) over batch and dimensions, on a fresh batch and then on the batch resampled around
    it: two optimizer steps per drawn batch. The source decides which faces come next
    (`facedistill.data.sources.rendered.RenderedFaces`); this class reports the cosine that it needs, per image, measured
    before the update.

    As in the released code, the student's batch normalization is in train mode on both halves, nothing is
    normalized, and no classification term is added. With several teachers, the objective is the weighted mean of those to
    each (`facedistill.methods.several`), and so is the cosine.

    Args:
        objective: "mse" is the paper's; "cosine" compares directions only, which needs fewer steps to learn
            from scratch but leaves the student's norm free.
        **kwargs: Those of `DistillationMethod`.
    """

    requirements = Requirements(equal_widths=True, reports_agreement=True, several_teachers=True)
    paper = "Otroshi Shahreza et al., IJCB 2023"

    def __init__(self, *, objective: Literal["mse", "cosine"] = "mse", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.objective = {"mse": squared_errors, "cosine": cosine_distances}[objective]
        self.projections = team_projections(self.student, self.teacher)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are the squared error and the mean cosine, whichever is minimized."""
        teacher = self.teach(batch)
        student = self.student(batch.images)
        compared = self.compared(student, teacher)
        loss = global_mean(weighted(compared, self.objective))
        with torch.no_grad():
            agreement = mean_agreement(compared)
            assert agreement is not None
            terms = {"mse": global_mean(weighted(compared, squared_errors)), "cosine": global_mean(agreement)}
            terms |= cosines_by_teacher(compared)
        return StepOutput(loss=loss, terms=terms, agreement=agreement)
