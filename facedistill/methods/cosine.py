"""The directions of the student's embeddings follow the teacher's."""

from __future__ import annotations

from torch import Tensor

from facedistill.losses.embedding import cosine_distances
from facedistill.methods.embedding import EmbeddingMethod


class Cosine(EmbeddingMethod):
    """A simple, strong baseline; a user of TFace reports that it beats CurricularFace + EKD (issue 81).

    L = weight · mean (1 - cos(F_S(x), F_T(x)))  [+ identity_weight · margin softmax]

    This is half the squared distance of unit embeddings, so the weight is twice that of ‖s - t‖² (VarGFaceNet: 7 there is
    14 here).
    """

    paper = "baseline; Yan et al., ICCVW 2019"
    term = "cosine_distance"

    @staticmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """1 - cosine."""
        return cosine_distances(student, teacher)
