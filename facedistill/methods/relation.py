"""What the methods share that hold relations between faces against those of the teacher."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from facedistill.distributed.collectives import gather, gather_constant
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.methods.several import gaps_by_teacher
from facedistill.models.teachers.team import TeacherTeam
from facedistill.types import FaceBatch, Requirements, StepOutput


class RelationMethod(IdentityMethod):
    """L = identity_weight · L_margin + weight · (relations of the gathered batch); needs no labels of its own.

    Student and teacher may differ in width. Several teachers make one: their unit embeddings side by side, each times the root of
    its weight, so that a cosine is the weighted mean of theirs (You et al., KDD 2017, average relations likewise).

    Args:
        weight: Weight of the relation terms, >= 0.
        **kwargs: Those of `IdentityMethod`.
    """

    requirements = Requirements(reports_agreement=True, several_teachers=True)

    def __init__(self, *, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    @abstractmethod
    def relations(self, student: Tensor, teacher: Tensor) -> Mapping[str, tuple[float, Tensor]]:
        """Factor and term (), by name, of gathered embeddings (N, D) and (N, D')."""

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are `identity` and the subclass's, unweighted."""
        student, teacher = self.student(batch.images), self.teach(batch)
        ours, theirs = gather(student), gather_constant(teacher)
        team = self.teacher if isinstance(self.teacher, TeacherTeam) else None
        relations = self.relations(ours, team.joined(theirs) if team else theirs)
        terms = self.identity_loss(student, batch) | {name: term for name, (_, term) in relations.items()}
        weights = {name: self.weight * factor for name, (factor, _) in relations.items()}
        loss = self.total(terms, **weights)
        gaps = gaps_by_teacher(ours, team, theirs) if team else {}
        lead = self.compared(student, teacher)[0]
        return StepOutput(loss, terms | gaps, agreement(lead.student, lead.teacher))
