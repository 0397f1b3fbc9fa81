"""SP, similarity-preserving distillation (Tung, Mori; ICCV 2019)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.relations import sp_loss
from facedistill.methods.relation import RelationMethod


class SP(RelationMethod):
    """L = identity_weight · L_margin + weight · L_sp: rows of scalar products agree in direction.

    See `facedistill.losses.relations.sp_loss`; raw embeddings of the gathered batch.

    Args:
        weight: Weight of L_sp.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Tung, Mori, ICCV 2019"

    def __init__(self, *, weight: float = 3000.0, **kwargs: Any) -> None:
        super().__init__(weight=weight, **kwargs)

    def relations(self, student: Tensor, teacher: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The term `similarity`."""
        return {"similarity": (1.0, sp_loss(student, teacher))}
