"""RKD, relational knowledge distillation (Park, Kim, Lu, Cho; CVPR 2019)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.rkd import rkd_angle_loss, rkd_distance_loss
from facedistill.methods.relation import RelationMethod


class RKD(RelationMethod):
    """L = identity_weight · L_margin + weight · (distance_weight · L_distance + angle_weight · L_angle).

    Huber losses between distances in units of their mean, and between the cosines of the angles of all triangles
    (`facedistill.losses.rkd`), on raw embeddings of the gathered batch. A term of weight 0 is not computed.

    Args:
        weight: Factor on both terms.
        distance_weight: Weight of the distances.
        angle_weight: Weight of the angles, which cost O(N³).
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Park et al., CVPR 2019"

    def __init__(
        self, *, weight: float = 1.0, distance_weight: float = 25.0, angle_weight: float = 50.0, **kwargs: Any
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def relations(self, student: Tensor, teacher: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Terms `distance` and `angle`."""
        terms = {}
        if self.distance_weight:
            terms["distance"] = (self.distance_weight, rkd_distance_loss(student, teacher))
        if self.angle_weight:
            terms["angle"] = (self.angle_weight, rkd_angle_loss(student, teacher))
        return terms
