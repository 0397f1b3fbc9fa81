"""ArcFace: an additive angular margin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.margins import BeyondPi, Gradient, arcface_target
from facedistill.models.heads.base import MarginHead


class ArcFaceHead(MarginHead):
    """logit_y = scale · cos(θ_y + m): after Deng et al., CVPR 2019.

    Args:
        margin_rad: m, in radians.
        gradient: "exact", or "reference" as in insightface's arcface_torch (`facedistill.losses.margins.arcface_target`).
        beyond_pi: The value where θ + m > π: "linear", "easy" or "wrap" (same place).
        **kwargs: Those of `MarginHead`.
    """

    def __init__(
        self, *, margin_rad: float = 0.5, gradient: Gradient = "exact", beyond_pi: BeyondPi = "linear", **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.margin_rad = margin_rad
        self.gradient: Gradient = gradient
        self.beyond_pi: BeyondPi = beyond_pi

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos(θ + m)."""
        return arcface_target(target, self.margin_rad, gradient=self.gradient, beyond_pi=self.beyond_pi)
