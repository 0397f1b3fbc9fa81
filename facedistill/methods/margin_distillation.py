"""MarginDistillation (Svitov, Alyamkin, 2020): the teacher's centers, and a margin per image from the teacher."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.distributed.collectives import gather_constant, global_mean
from facedistill.errors import ConfigError
from facedistill.losses.margins import arcface
from facedistill.losses.precision import at_least_float32
from facedistill.methods.agreement import agreement
from facedistill.methods.base import DistillationMethod
from facedistill.models.heads.base import require_equal_widths
from facedistill.types import FaceBatch, Requirements, StepOutput


class MarginDistillation(DistillationMethod):
    """L = mean CE(s · arcface(cos(F_S(x), w), m_i), y), with frozen teacher centers w.

    m_i = (m_most - m_least) / D_max · d_i + m_least, d_i = cos(F_T(x_i), w_y), D_max = max d_i over the global batch (the
    released code: the batch of one process). d_i below 0 counts as 0, which keeps m_i in [m_least, m_most]. As released,
    images that the teacher finds easy get the large margin. Images of a balanced part count like all others.

    Args:
        centers: (K, D) unit teacher centers; not in the checkpoint, since the same data gives them again.
        scale: s.
        least_margin_rad: m_least.
        most_margin_rad: m_most.
        **kwargs: Those of `DistillationMethod`.
    """

    paper = "Svitov, Alyamkin, arXiv 2003.02586"
    requirements = Requirements(labels=True, class_centers=True, equal_widths=True, reports_agreement=True)
    centers: Tensor

    def __init__(
        self, *, centers: Tensor, scale: float = 64.0, least_margin_rad: float = 0.2, most_margin_rad: float = 0.5,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if most_margin_rad < least_margin_rad:
            raise ConfigError(
                f"method.most_margin_rad: expected at least least_margin_rad ({least_margin_rad}), got {most_margin_rad}"
            )
        self.scale = scale
        self.least_margin_rad = least_margin_rad
        self.most_margin_rad = most_margin_rad
        self.register_buffer("centers", F.normalize(centers.detach().float()), persistent=False)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the terms are "identity" and the mean margin, "margin_rad"."""
        assert batch.labels is not None
        student, teacher = at_least_float32(self.student(batch.images)), at_least_float32(self.teach(batch))
        require_equal_widths(student.shape[1], self.centers.shape[1])
        with torch.autocast(student.device.type, enabled=False):
            margins = self.margins(teacher, batch.labels)
            cosines = F.normalize(student, eps=1e-6) @ self.centers.to(student.dtype).T
            logits = self.scale * arcface(cosines, batch.labels, margins)
            loss = global_mean(F.cross_entropy(logits, batch.labels, reduction="none"))
        terms = {"identity": loss.detach(), "margin_rad": global_mean(margins)}
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    def margins(self, teacher: Tensor, labels: Tensor) -> Tensor:
        """(N,) margins in radians from teacher embeddings (N, D) and labels (N,)."""
        closeness = (F.normalize(teacher) * self.centers[labels]).sum(1).clamp(min=0)
        largest = gather_constant(closeness).amax().clamp(min=1e-6)
        return self.least_margin_rad + (self.most_margin_rad - self.least_margin_rad) * closeness / largest
