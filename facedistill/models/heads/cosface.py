"""CosFace: an additive cosine margin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.models.heads.base import MarginHead


class CosFaceHead(MarginHead):
    """logit_y = scale · (cos θ_y - m): after Wang et al., CVPR 2018.

    Args:
        margin_cos: m.
        **kwargs: Those of `MarginHead`.
    """

    def __init__(self, *, margin_cos: float = 0.4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_cos = margin_cos

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos θ - m."""
        return target - self.margin_cos
