"""DarkRank, hard version (Chen, Wang, Zhang; AAAI 2018)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.losses.relations import darkrank_loss
from facedistill.methods.relation import RelationMethod


class DarkRank(RelationMethod):
    """L = identity_weight · L_margin + weight · L_darkrank: the student orders neighbors as the teacher does.

    See `facedistill.losses.relations.darkrank_loss`; gathered batch, every image a query, its list the
    `list_length` images nearest by the teacher.

    Args:
        weight: Weight of L_darkrank.
        alpha: Contrast of the scores, > 0.
        beta: Power of the distance, > 0.
        list_length: Images in a list, >= 2.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If a list is shorter than 2, which has one order only.
    """

    paper = "Chen et al., AAAI 2018"

    def __init__(
        self,
        *,
        weight: float = 1.0,
        alpha: float = 3.0,
        beta: float = 3.0,
        list_length: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, **kwargs)
        if list_length < 2:
            raise ConfigError(f"method.list_length: {list_length} leaves nothing to order; give 2 or more")
        self.alpha = alpha
        self.beta = beta
        self.list_length = list_length

    def relations(self, student: Tensor, teacher: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The term `order`."""
        term = darkrank_loss(student, teacher, alpha=self.alpha, beta=self.beta, list_length=self.list_length)
        return {"order": (1.0, term)}
