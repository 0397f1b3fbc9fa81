"""ILED + RPSD (Mishra, Uikey; IJCB 2025): embeddings and mined pair similarities follow the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from facedistill.losses.mined import instance_distillation, pair_similarity_distillation
from facedistill.methods.relation import RelationMethod
from facedistill.models.memory_bank import EmbeddingQueue


class ILEDRPSD(RelationMethod):
    """Embeddings of hard images count more, and pairs with a memory bank keep the teacher's similarity.

    L = identity_weight · L_margin + weight · (instance_weight · L_ILED + pair_weight · L_RPSD), see
    `facedistill.losses.mined`: a reconstruction from the abstract, with weights of ours. The bank holds the embeddings of
    both networks of the last `bank_size` images, so a stream of faces will do; those of the student are as old as their
    batch.

    Args:
        weight: Common factor, >= 0.
        instance_weight: Weight of ILED, >= 0.
        pair_weight: Weight of RPSD, >= 0.
        hard_weight: What a hard image counts more than an easy one, >= 0.
        num_pairs: Mined pairs per image.
        bank_size: Images in the bank; 0 for pairs of the batch alone.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Mishra, Uikey, IJCB 2025"
    requirements = replace(RelationMethod.requirements, equal_widths=True, several_teachers=False)

    def __init__(
        self,
        *,
        weight: float = 1.0,
        instance_weight: float = 1.0,
        pair_weight: float = 1.0,
        hard_weight: float = 1.0,
        num_pairs: int = 100,
        bank_size: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        self.factors = {"instance": instance_weight, "pairs": pair_weight}
        self.hard_weight = hard_weight
        self.num_pairs = num_pairs
        width = int(self.student.embedding_dim)  # type: ignore[arg-type]
        self.bank = EmbeddingQueue(bank_size, student_dim=width, teacher_dim=width)

    def relations(self, student: Tensor, teacher: Tensor) -> Mapping[str, tuple[float, Tensor]]:
        """Computes both terms of the gathered batch, and puts it into the bank."""
        instance = instance_distillation(student, teacher, hard_weight=self.hard_weight)
        pairs = pair_similarity_distillation(
            student, teacher, self.bank.student, self.bank.teacher, num_pairs=self.num_pairs
        )
        if self.training:
            self.bank.push(student, teacher)
        return {"instance": (self.factors["instance"], instance), "pairs": (self.factors["pairs"], pairs)}
