"""PKT, probabilistic knowledge transfer (Passalis, Tefas; ECCV 2018)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.relations import pkt_loss
from facedistill.methods.relation import RelationMethod


class PKT(RelationMethod):
    """L = identity_weight · L_margin + weight · L_pkt: each face's affinities to the batch as a distribution.

    See `facedistill.losses.relations.pkt_loss`; gathered batch.

    Args:
        weight: Weight of L_pkt.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Passalis, Tefas, ECCV 2018"

    def __init__(self, *, weight: float = 30000.0, **kwargs: Any) -> None:
        super().__init__(weight=weight, **kwargs)

    def relations(self, student: Tensor, teacher: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The term `affinity`."""
        return {"affinity": (1.0, pkt_loss(student, teacher))}
