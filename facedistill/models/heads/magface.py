"""MagFace: the margin grows with the norm, and norms are pulled up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facedistill.losses.margins import BeyondPi, arcface_target, magface_margin, magface_regularizer
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.base import MarginHead


class MagFaceHead(MarginHead):
    """logit_y = scale · cos(θ_y + m(a)), plus λ g(a) per image, a = ‖f‖ clipped: Meng et al., CVPR 2021.

    m(a) is linear from `margin_range_rad[0]` at `norm_range[0]` to `margin_range_rad[1]` at `norm_range[1]`;
    g(a) = a / u_a² + 1 / a. Outside `norm_range` neither has a slope (as in the released code), so an embedding whose
    norm is below 10 is not pulled up.

    Args:
        norm_range: (l_a, u_a).
        margin_range_rad: (l_m, u_m), in radians.
        regularizer_weight: λ_g.
        beyond_pi: "easy" in the released code; see `ArcFaceHead`.
        **kwargs: Those of `MarginHead`.
    """

    def __init__(
        self, *, norm_range: Sequence[float] = (10, 110), margin_range_rad: Sequence[float] = (0.45, 0.8),
        regularizer_weight: float = 35.0, beyond_pi: BeyondPi = "easy", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.norm_range = (norm_range[0], norm_range[1])
        self.margin_range_rad = (margin_range_rad[0], margin_range_rad[1])
        self.regularizer_weight = regularizer_weight
        self.beyond_pi: BeyondPi = beyond_pi

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos(θ + m(a))."""
        margins = magface_margin(
            _norms(embeddings), norm_range=self.norm_range, margin_range_rad=self.margin_range_rad
        )
        return arcface_target(target, margins, beyond_pi=self.beyond_pi)

    def regularizer(self, embeddings: Tensor) -> Tensor:
        """(N,) λ g(a)."""
        return self.regularizer_weight * magface_regularizer(_norms(embeddings), norm_range=self.norm_range)


def _norms(embeddings: Tensor) -> Tensor:
    with torch.autocast(embeddings.device.type, enabled=False):
        return torch.linalg.vector_norm(at_least_float32(embeddings), dim=1)
