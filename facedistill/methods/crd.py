"""Contrastive representation distillation (Tian, Krishnan, Isola; ICLR 2020), with a memory bank per network."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant, global_mean, rank, world_size
from facedistill.errors import ConfigError
from facedistill.losses.contrastive import bank_scores, log_normalizer, noise_contrastive
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.models.memory_bank import MemoryBank, draw_indices
from facedistill.system.devices import copied_to
from facedistill.types import FaceBatch, Requirements, StepOutput


class CRD(IdentityMethod):
    """Contrasts the student's embedding of an image with the teacher's embeddings of other images, and vice versa.

    L = identity_weight · margin softmax + weight · (NCE(student; bank of the teacher) + NCE(teacher; bank of the
    student)), see `facedistill.losses.contrastive`. Both networks' embeddings pass a learned linear projection
    to unit vectors of width `dim`; either bank follows its projection with momentum. Z of either side is set from
    the first batch and fixed from then on.

    Differences from the released code: negatives are drawn uniformly from the full set, by a counter, so
    that resuming is exact (its loader for CIFAR leaves out images of the same label; among faces they are rare);
    with `negatives: shared` one draw serves the full batch, which needs N·M scores and no N·M·dim vectors; an
    image that comes twice in a batch moves the bank by its mean; equal on any number of processes (with `per_image`,
    where they get every W-th image of the global batch, as all sources here deal them).

    Args:
        num_images: Size of the finite set.
        weight: Weight of both NCE terms together, >= 0; 0.8 in RepDistiller.
        dim: Width of the projections; 128 in the released code.
        num_negatives: M; 16384 in the released code; at most the size of the set.
        negatives: "shared" by the images of a batch, or drawn "per_image" as released.
        temperature: > 0; 0.07 in the released code.
        momentum: Of the banks, in [0, 1); 0.5 in the released code.
        seed: Of the banks and of the negatives.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If the source is not a finite set.
    """

    paper = "Tian et al., ICLR 2020"
    requirements = Requirements(indices=True, reports_agreement=True)
    log_z: Tensor

    def __init__(
        self,
        *,
        num_images: int | None,
        weight: float = 0.8,
        dim: int = 128,
        num_negatives: int = 16384,
        negatives: Literal["shared", "per_image"] = "shared",
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_images is None:
            raise ConfigError("method: crd stores a vector per image and needs a finite set; use data=faces")
        self.num_images = num_images
        self.weight = weight
        self.num_negatives = min(num_negatives, num_images)
        self.negatives = negatives
        self.temperature = temperature
        self.seed = seed
        self.project_student = nn.Linear(int(self.student.embedding_dim), dim)  # type: ignore[arg-type]
        self.project_teacher = nn.Linear(int(self.teacher.embedding_dim), dim)  # type: ignore[arg-type, union-attr]
        self.student_bank = MemoryBank(num_images=num_images, dim=dim, momentum=momentum, seed=2 * seed)
        self.teacher_bank = MemoryBank(num_images=num_images, dim=dim, momentum=momentum, seed=2 * seed + 1)
        self.register_buffer("log_z", torch.full((2,), torch.nan))

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are "student_nce" and "teacher_nce"."""
        assert batch.indices is not None
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        with torch.autocast(student.device.type, enabled=False):
            own, others = batch.indices, copied_to(student.device, self._draw(len(student)))
            views = (
                F.normalize(self.project_student(student.float())),
                F.normalize(self.project_teacher(teacher.float())),
            )
            banks = (self.teacher_bank, self.student_bank)
            scores = [
                bank_scores(view, bank.vectors[own], bank.vectors[others])
                for view, bank in zip(views, banks, strict=True)
            ]
            log_z = self._normalizers(scores)
            for name, side, normalizer in zip(
                ("student_nce", "teacher_nce"), scores, log_z.unbind(), strict=True
            ):
                losses = noise_contrastive(side, normalizer, self.temperature, self.num_images)
                terms[name] = global_mean(losses)
            if self.training:
                self.student_bank.update(own, views[0])
                self.teacher_bank.update(own, views[1])
        loss = self.total(terms, student_nce=self.weight, teacher_nce=self.weight)
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    def _draw(self, num_images: int) -> Tensor:
        """Positions of the negatives: (M,) shared by all processes, or (N, M)."""
        counters = torch.tensor([self.images_seen])
        if self.negatives == "per_image":  # a process has every W-th image of the global batch
            counters = counters + rank() + world_size() * torch.arange(num_images)
        drawn = draw_indices(self.seed, "crd", counters, self.num_negatives, self.num_images)
        return drawn if self.negatives == "per_image" else drawn[0]

    def _normalizers(self, scores: list[Tensor]) -> Tensor:
        """(2,) log Z of student and teacher, from the first batch of all processes, fixed from then on.

        The first batch is recognized without a device synchronization: log Z is NaN until then.
        """
        each = torch.stack([log_normalizer(side, self.temperature, self.num_images) for side in scores])
        parts = gather_constant(each[None])
        first = torch.logsumexp(parts, 0) - math.log(len(parts))
        log_z = torch.where(self.log_z.isnan(), first, self.log_z)
        if self.training:
            self.log_z.copy_(log_z)
        return log_z
