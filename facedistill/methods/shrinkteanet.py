"""ShrinkTeaNet (Duong et al., 2019): squared angular distances to the teacher, and the identity loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.embedding import cosine_distances
from facedistill.methods.embedding import EmbeddingMethod


class ShrinkTeaNet(EmbeddingMethod):
    """L = identity_weight · margin softmax + weight · mean (1 - cos(F_S(x), F_T(x)))².

    The square gives small angles less weight and large angles more. The paper also compares intermediate layers, with a
    lower weight; this is its embedding term, as in TFace's table. "Angular distillation" in margindistillation leaves out
    the square: that is the method `cosine` with an identity weight of 1.
    """

    paper = "Duong et al., arXiv 1905.10620"
    term = "angular"

    def __init__(self, *, identity_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)

    @staticmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """(1 - cosine)²."""
        return cosine_distances(student, teacher).square()
