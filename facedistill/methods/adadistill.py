"""AdaDistill (Boutros, Štruc, Damer; ECCV 2024): centers that are running means of the teacher's embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.distributed.collectives import gather_constant, global_mean
from facedistill.losses.margins import arcface, cosface
from facedistill.losses.precision import at_least_float32
from facedistill.methods.base import DistillationMethod
from facedistill.models.heads.base import require_equal_widths
from facedistill.types import FaceBatch, Requirements, StepOutput


class AdaDistill(DistillationMethod):
    """L = mean CE(s · margin(cos(F_S(x), w)), y); w_y follows the teacher the slower, the better the student does.

    Before the loss, without gradient, with unit f_S and f_T: w_y ← α w_y + (1 - α) f_T, where
    "alpha": α = clip(cos(f_S, f_T), 1e-6, 1); "alpha_prime": α = clip(cos(f_S, f_T) · clip(cos(w_y, f_T), 1e-6, 1), 1e-6, 1)
    (released code). Centers start at N(0, init_std²) and are never normalized themselves.

    An identity with several images in the global batch takes the mean of the centers that each image alone would have
    made of the old one, independent of the order of images and of the number of processes. (Released code: one image wins, which is
    undefined, and each process has its own centers.) Centers move in training mode only and are in the checkpoint. Images
    of a balanced part count like all others.

    Args:
        num_identities: K.
        embedding_dim: D of the student, which must be the teacher's.
        version: Which α.
        margin_kind: "arcface" adds the margin to the angle, in radians; "cosface" subtracts it from the cosine.
        margin: 0.45 for arcface, 0.35 for cosface in the paper.
        scale: s.
        init_std: Standard deviation of the initial centers.
        **kwargs: Those of `DistillationMethod`.
    """

    paper = "Boutros et al., ECCV 2024, arXiv 2407.01332"
    requirements = Requirements(labels=True, equal_widths=True, reports_agreement=True)
    centers: Tensor

    def __init__(
        self, *, num_identities: int, embedding_dim: int, version: Literal["alpha", "alpha_prime"] = "alpha_prime",
        margin_kind: Literal["arcface", "cosface"] = "arcface", margin: float = 0.45, scale: float = 64.0,
        init_std: float = 0.01, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        require_equal_widths(embedding_dim, getattr(self.teacher, "embedding_dim", embedding_dim))
        self.version = version
        self.margin: Callable[[Tensor, Tensor, float], Tensor] = (
            arcface if margin_kind == "arcface" else cosface
        )
        self.margin_size = margin
        self.scale = scale
        self.register_buffer("centers", init_std * torch.randn(num_identities, embedding_dim))

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the terms are "identity" and the mean α, "retention"."""
        assert batch.labels is not None
        student, teacher = at_least_float32(self.student(batch.images)), at_least_float32(self.teach(batch))
        with torch.autocast(student.device.type, enabled=False):
            unit, target = F.normalize(student, eps=1e-6), F.normalize(teacher, eps=1e-6)
            retention = self.retention(unit.detach(), target, batch.labels)
            if self.training:
                self.move_centers(target, batch.labels, retention)
            cosines = (
                unit @ F.normalize(self.centers.to(unit.dtype)).T
            )  # a copy: the next step moves the centers
            logits = self.scale * self.margin(cosines, batch.labels, self.margin_size)
            loss = global_mean(F.cross_entropy(logits, batch.labels, reduction="none"))
        terms = {"identity": loss.detach(), "retention": global_mean(retention)}
        agreement = (unit.detach() * target).sum(1)
        return StepOutput(loss=loss, terms=terms, agreement=agreement)

    @torch.no_grad()
    def retention(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """(N,) α in [1e-6, 1] from unit embeddings (N, D) and labels (N,)."""
        alpha = (student * teacher).sum(1)
        if self.version == "alpha_prime":
            own = F.normalize(self.centers[labels].to(teacher.dtype))
            alpha = alpha * (own * teacher).sum(1).clamp(1e-6, 1)
        return alpha.clamp(1e-6, 1)

    @torch.no_grad()
    def move_centers(self, teacher: Tensor, labels: Tensor, retention: Tensor) -> None:
        """Moves the centers by the global batch: unit teacher embeddings (N, D), labels (N,), α (N,)."""
        teacher, labels, retention = (gather_constant(x) for x in (teacher, labels, retention))
        kept = retention.to(self.centers.dtype).unsqueeze(1)
        proposals = kept * self.centers[labels] + (1 - kept) * teacher.to(self.centers.dtype)
        same = labels[:, None] == labels
        place = torch.arange(len(labels), device=labels.device)
        first = torch.where(same, place, len(labels)).amin(1)  # the identity's first image
        summed = torch.zeros_like(proposals).index_add_(0, first, proposals)
        self.centers[labels] = (summed / same.sum(1, keepdim=True))[first]
