"""CosFace: an additive cosine margin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.models.heads.own_margin import OwnMarginHead


class CosFaceHead(OwnMarginHead):
    """logit_y = scale · (cos θ_y - m): after Wang et al., CVPR 2018.

    Args:
        margin_cos: m.
        **kwargs: Those of `OwnMarginHead`.
    """

    def __init__(self, *, margin_cos: float = 0.4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_cos = margin_cos

    def own_margin(self, own: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos θ - m."""
        return own - self.margin_cos
