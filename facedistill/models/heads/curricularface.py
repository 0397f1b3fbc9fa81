"""CurricularFace: easy impostor columns first, hard ones later."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facedistill.losses.margins import arcface_target, curricularface_others
from facedistill.models.heads.base import MarginHead


class CurricularFaceHead(MarginHead):
    """ArcFace in the target column, hard columns c_j (t + c_j): Huang et al., CVPR 2020; `margins.curricularface_others`.

    t moves by `momentum` to the mean target cosine of the global batch, then serves that step, as in the released
    metrics.py (one process there).

    Args:
        margin_rad: m, in radians.
        momentum: Weight of the newest batch in t.
        **kwargs: Those of `MarginHead`.

    Attributes:
        ease: () buffer t, 0 at first.
    """

    ease: Tensor

    def __init__(self, *, margin_rad: float = 0.5, momentum: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_rad = margin_rad
        self.momentum = momentum
        self.register_buffer("ease", torch.tensor(0.0))

    @torch.no_grad()
    def observe(self, target: Tensor, norms: Tensor) -> None:
        """Moves t by the target cosines (N,)."""
        self.ease.lerp_(target.mean().to(self.ease.dtype), self.momentum)

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) cos(θ + m)."""
        return arcface_target(target, self.margin_rad)

    def other_margin(self, cosines: Tensor, target: Tensor) -> Tensor:
        """(N, K') with the hard columns changed."""
        return curricularface_others(cosines, target, margin_rad=self.margin_rad, ease=self.ease.clone())
