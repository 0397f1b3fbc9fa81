"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017): the student looks where the teacher looks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.feature_maps import attention_errors
from facedistill.methods.fitnet import FeatureMapMethod


class AttentionTransfer(FeatureMapMethod):
    """L = identity_weight · margin softmax + weight · mean_i ‖a(h_S) - a(h_T)‖² / (H·W), a = unit(sum_c h_c^power).

    h are the maps of one layer each (RepDistiller sums over four); where their sizes differ, the larger is
    average-pooled.

    Args:
        weight: Weight of the term; 1000 in RepDistiller, for CIFAR.
        power: Exponent of the activations, >= 1.
        **kwargs: Those of `FeatureMapMethod`.
    """

    paper = "Zagoruyko and Komodakis, ICLR 2017"

    def __init__(self, *, weight: float = 1000.0, power: int = 2, **kwargs: Any) -> None:
        super().__init__(weight=weight, **kwargs)
        self.power = power

    def map_errors(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compares where both maps are large."""
        return attention_errors(student, teacher, self.power)
