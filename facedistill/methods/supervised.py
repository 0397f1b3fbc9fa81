"""The control of every table: the same student and recipe, without a teacher."""

from __future__ import annotations

from typing import Any

from facedistill.errors import ConfigError
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class Supervised(IdentityMethod):
    """L = margin softmax of the student through a learned head; the loss does not use the teacher.

    Which margin is the head's business (`head=arcface|cosface|...`). Validation may still compare with a teacher.

    Args:
        **kwargs: Those of `IdentityMethod`; `identity_weight` must be above 0.
    """

    paper = "no distillation"
    requirements = Requirements(labels=True, teacher=False, identity_loss=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_identity_weight(self)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the only term is "identity"."""
        terms = self.identity_loss(self.student(batch.images), batch)
        return StepOutput(loss=self.total(terms), terms=terms)


def require_identity_weight(method: IdentityMethod) -> None:
    """Refuses a method that would have no loss at all."""
    if method.identity_weight <= 0:
        raise ConfigError(
            f"method.identity_weight: {type(method).__name__} has no other loss than the head's; set it above 0, got {method.identity_weight}"
        )
