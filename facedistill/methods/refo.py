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
    2. up to `return_at`: S is frozen, and a linear adapter A, initially the identity map, learns from it:
       L = reverse_weight · mse(A(T(x)), S(x)) + mse(A(T(x)), T(x));
    3. to the end: S learns from the adapted teacher, A is frozen: L = mse(S(x), A(T(x))).

    mse is the mean over images and dimensions of raw embeddings. A frozen part gets no gradient and no weight decay;
    a frozen student is in eval mode.

    This is an approximation of ReFO, not ReFO: there the teacher itself is trained again from scratch with its
    identity loss plus ‖f_T - f_S0‖, the initial student f_S0 having been trained before, and the final student
    starts from scratch. Here the teacher's network stays frozen, as in every method of this package, and only a linear
    map after it changes. The second term replaces the identity loss and keeps the adapted teacher accurate. All phases
    are in one run, and phase 3 continues with the student of phase 1. ReFO+'s half-depth student proxy is absent.
    Weights and times are ours.

    Args:
        meet_at: Share of the budget where phase 1 ends, in (0, 1).
        return_at: Share of the budget where phase 2 ends, in (meet_at, 1).
        reverse_weight: Weight of the distance to the student in phase 2, >= 0.
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
        loss = loss + 0.0 * (student.sum() + adapted.sum())  # every parameter takes part, which DDP requires
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Removes the gradient of the frozen part, so that neither momentum nor weight decay changes it."""
        frozen: nn.Module = self.student if self.phase_of_step == 2 else self.adapter
        for parameter in frozen.parameters():
            parameter.grad = None

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Remembers the phase, because the base class advances the progress within the step."""
        self.phase_of_step = self.phase
        return super().training_step(batch, batch_idx)

    phase_of_step: int = 1
