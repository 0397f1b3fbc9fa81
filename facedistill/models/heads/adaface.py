"""AdaFace: a margin that follows image quality, read from the embedding's norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facedistill.losses.margins import adaface_target
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.base import MarginHead


class AdaFaceHead(MarginHead):
    """logit_y = scale · (cos(θ_y - m ẑ) - m - m ẑ): Kim et al., CVPR 2022; formula in `margins.adaface_target`.

    The running mean and (unbiased) standard deviation of the norms move by `momentum` per step, then serve that
    step, as in the released head.py; here they are those of the global batch. A global batch of one image has no
    standard deviation and leaves the running one (the released code turns to NaN).

    Args:
        margin: m, an angle in radians and a cosine at once.
        concentration: h.
        momentum: Weight of the newest batch in the running statistics.
        **kwargs: Those of `MarginHead`.

    Attributes:
        norm_mean: () buffer, 20 at first.
        norm_std: () buffer, 100 at first.
    """

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(
        self, *, margin: float = 0.4, concentration: float = 0.333, momentum: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.concentration = concentration
        self.momentum = momentum
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    @torch.no_grad()
    def observe(self, target: Tensor, norms: Tensor) -> None:
        """Moves the running mean and standard deviation by the clipped norms (N,)."""
        norms = norms.clamp(1e-3, 100).to(self.norm_mean.dtype)
        self.norm_mean.lerp_(norms.mean(), self.momentum)
        if len(norms) > 1:
            self.norm_std.lerp_(norms.std(), self.momentum)

    def target_margin(self, target: Tensor, embeddings: Tensor) -> Tensor:
        """(N,) margined cosines; the norms carry no gradient."""
        norms = torch.linalg.vector_norm(at_least_float32(embeddings.detach()), dim=1)
        statistics = {"mean": self.norm_mean.clone(), "std": self.norm_std.clone()}
        return adaface_target(
            target, norms, **statistics, margin=self.margin, concentration=self.concentration
        )
