"""After ReFO (Li et al., CVPR 2023): a teacher made student-friendly, then plain feature distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from facedistill.distributed.collectives import global_mean
from facedistill.errors import ConfigError
from facedistill.losses.embedding import squared_errors
from facedistill.methods.agreement import agreement
from facedistill.methods.base import DistillationMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class ReFO(DistillationMethod):
    """Label-free, in three phases by the share of the image budget that is used:

    1. up to `meet_at`: the student S learns from the teacher T: L = mse(S(x), T(x));
    2. up to `return_at`: S rests, an adapter A, linear and first the identity, is drawn towards it:
       L = reverse_weight · mse(A(T(x)), S(x)) + mse(A(T(x)), T(x));
    3. to the end: S learns from the adapted teacher, A rests: L = mse(S(x), A(T(x))).

    mse is the mean over images and dimensions of raw embeddings. Whatever rests receives no gradient at all, not
    even weight decay; a resting student is in eval mode.

    This is an approximation of ReFO, not ReFO: there the teacher itself is trained again from scratch with its
    identity loss plus ‖f_T - f_S0‖, the initial student f_S0 having been trained before, and the final student
    starts anew. Here the teacher's network stays frozen, as in every method of this package, and only a linear
    map after it gives way; its second term stands in for the identity loss, which keeps the teacher a teacher; all
    happens in one run, and the student of phase 3 goes on from phase 1. ReFO+'s half-depth student proxy is absent.
    Weights and times are ours.

    Args:
        meet_at: Share of the budget where phase 1 ends, in (0, 1).
        return_at: Share of the budget where phase 2 ends, in (meet_at, 1).
        reverse_weight: Weight of the pull towards the student in phase 2, >= 0.
        **kwargs: Those of `DistillationMethod`.

    Raises:
        ConfigError: If the phases are not in order.
    """

    paper = "after Li et al., CVPR 2023"
    requirements = Requirements(equal_widths=True, reports_agreement=True)

    def __init__(
        self,
        *,
        meet_at: float = 0.3,
        return_at: float = 0.4,
        reverse_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < meet_at < return_at < 1:
            raise ConfigError(
                f"method.meet_at={meet_at}, method.return_at={return_at}: phases must end in this order, "
                "both between 0 and 1"
            )
        self.meet_at = meet_at
        self.return_at = return_at
        self.reverse_weight = reverse_weight
        width = int(self.teacher.embedding_dim)  # type: ignore[arg-type, union-attr]
        self.adapter = nn.Linear(width, width)
        nn.init.eye_(self.adapter.weight)
        nn.init.zeros_(self.adapter.bias)

    @property
    def phase(self) -> int:
        """1, 2 or 3."""
        return 1 + (self.progress >= self.meet_at) + (self.progress >= self.return_at)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are "mse" in phases 1 and 3, "reverse" and "stay" in phase 2."""
        teacher, phase = self.teach(batch).float(), self.phase
        if self.training:
            self.student.train(phase != 2)
        student = self.student(batch.images)
        with torch.autocast(teacher.device.type, enabled=False):
            adapted = self.adapter(teacher)
        if phase == 2:
            terms = {
                "reverse": global_mean(squared_errors(adapted, student)),
                "stay": global_mean(squared_errors(adapted, teacher)),
            }
            loss = self.reverse_weight * terms["reverse"] + terms["stay"]
        else:
            terms = {"mse": global_mean(squared_errors(student, teacher if phase == 1 else adapted))}
            loss = terms["mse"]
        loss = loss + 0.0 * (student.sum() + adapted.sum())  # every parameter takes part, as DDP wants
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Takes the gradient from what rests, so that no momentum or weight decay moves it."""
        resting: nn.Module = self.student if self.phase_of_step == 2 else self.adapter
        for parameter in resting.parameters():
            parameter.grad = None

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """As in the base, which moves the progress on within the step."""
        self.phase_of_step = self.phase
        return super().training_step(batch, batch_idx)

    phase_of_step: int = 1
