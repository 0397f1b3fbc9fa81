"""The raw embeddings of the student follow the teacher's."""

from __future__ import annotations

from torch import Tensor

from facedistill.losses.embedding import squared_errors
from facedistill.methods.embedding import EmbeddingMethod


class EmbeddingMSE(EmbeddingMethod):
    """The baseline of AdaDistill's and TFace's tables (where it is called FitNet).

    L = weight · 1 / (N·D) · sum (F_S(x) - F_T(x))²  [+ identity_weight · margin softmax]

    The embeddings are not normalized, so the student learns the teacher's norms too. SynthDistill has this objective, on
    rendered faces.
    """

    paper = "baseline; released with Huang et al., CVPR 2022"
    term = "mse"

    @staticmethod
    def distance(student: Tensor, teacher: Tensor) -> Tensor:
        """Squared error, the mean over dimensions."""
        return squared_errors(student, teacher)
