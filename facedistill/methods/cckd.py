"""CCKD, correlation congruence (Peng, Jin, Liu et al.; ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.losses.relations import cckd_loss
from facedistill.methods.relation import RelationMethod


class CCKD(RelationMethod):
    """L = identity_weight · L_margin + weight · L_cckd: a Gaussian kernel between faces, as a series in the cosine.

    See `facedistill.losses.relations.cckd_loss`; gathered batch. TFace's version sums the orders 0 and 1 only,
    which makes it SP on cosines with a smaller weight; `orders: [0, 1]` is that one.

    Args:
        weight: Weight of L_cckd.
        gamma: Of the kernel, > 0.
        orders: Orders of the series, each >= 0.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If no order above 0 is left, since a constant kernel teaches nothing.
    """

    paper = "Peng et al., ICCV 2019"

    def __init__(
        self, *, weight: float = 100.0, gamma: float = 0.4, orders: Sequence[int] = (0, 1, 2), **kwargs: Any
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        if min(orders, default=0) < 0 or max(orders, default=0) < 1:
            raise ConfigError(
                f"method.orders: {list(orders)} has no order above 0; give [0, 1, 2] as in the paper"
            )
        self.gamma = gamma
        self.orders = tuple(orders)

    def relations(self, student: Tensor, teacher: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The term `correlation`."""
        return {"correlation": (1.0, cckd_loss(student, teacher, gamma=self.gamma, orders=self.orders))}
