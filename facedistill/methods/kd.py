"""Knowledge distillation of identity logits (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

from torch import Tensor

from facedistill.losses.groups import WeightedTerms
from facedistill.losses.logits import kd
from facedistill.methods.logits import LogitMethod


class KD(LogitMethod):
    """L = identity_weight · (margin softmax) + weight · temperature² · KL(softmax(z_T / t) ‖ softmax(z_S / t)).

    The formula is `facedistill.losses.logits.kd`, the arguments are those of `LogitMethod`.
    """

    paper = "Hinton et al., 2015"

    def divergences(self, student: Tensor, teacher: Tensor, labels: Tensor) -> WeightedTerms:
        """The one term "kd", temperature² included."""
        return {"kd": (kd(student, teacher, temperature=self.temperature), 1.0)}
