"""Decoupled knowledge distillation (Zhao, Cui, Song, Qiu, Liang; CVPR 2022) of identity logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.groups import WeightedTerms
from facedistill.losses.logits import dkd_terms
from facedistill.methods.logits import LogitMethod


class DKD(LogitMethod):
    """L = identity_weight · (margin softmax) + weight · ramp · temperature² · (alpha · binary + beta · secondary).

    binary is the divergence of (label, all others), secondary that of the others among themselves:
    `facedistill.losses.logits.dkd`, which is GKD with the label alone in the group.

    Args:
        alpha: Weight of binary.
        beta: Weight of secondary.
        **kwargs: Those of `LogitMethod`.
    """

    paper = "Zhao et al., CVPR 2022"

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self.beta = beta

    def divergences(self, student: Tensor, teacher: Tensor, labels: Tensor) -> WeightedTerms:
        """The terms "binary" and "secondary"."""
        weights = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
        return dkd_terms(student, teacher, labels, **weights)
