"""Grouped knowledge distillation (GKD; Zhao, Zhu, Guo, Zhang, Lei; AAAI 2023)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.losses.grouping import Grouping, GroupingRule, Network, group_thresholds
from facedistill.losses.groups import group_terms
from facedistill.methods.logits import LogitMethod


class GKD(LogitMethod):
    """L = identity_weight · CE + weight · ramp · t² · (alpha · binary + beta · primary + lambda · secondary).

    The identities fall into a primary group, which the label always belongs to, and the rest: `Grouping` has the
    three rules, `facedistill.losses.groups.gkd` the terms and the differences from the released code. Another
    difference: the teacher's classifier is derived (`LogitMethod`), the released one was trained with it.

    Args:
        alpha: Weight of binary (Binary-KD).
        beta: Weight of primary (Primary-KD).
        lambda_: Weight of secondary (Secondary-KD); at 0 the term is not part of the loss.
        grouping: "top_n", "batch_mass" or "sample_mass".
        size: Identities in a "top_n" group; K or more is allowed.
        mass: Probability that the group holds, for the other two.
        step: Step of the grid of "batch_mass".
        ranked_by: Whose logits rank, "student" or "teacher".
        **kwargs: Those of `LogitMethod`.

    Raises:
        ConfigError: As `Grouping` and `LogitMethod`.
    """

    paper = "Zhao et al., AAAI 2023"

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        lambda_: float = 0.0,
        grouping: GroupingRule = "top_n",
        size: int = 10_000,
        mass: float = 0.93,
        step: int = 100,
        ranked_by: Network = "student",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self.beta = beta
        self.lambda_ = lambda_
        self.grouping = Grouping(grouping, size=size, mass=mass, step=step, ranked_by=ranked_by)

    def divergences(
        self, student: Tensor, teacher: Tensor, labels: Tensor
    ) -> dict[str, tuple[Tensor, float]]:
        """The terms "binary" and "primary", and "secondary" where it has a weight."""
        ranking = student if self.grouping.ranked_by == "student" else teacher
        thresholds = group_thresholds(ranking.detach(), labels, self.grouping, self.temperature)
        terms = group_terms(
            student, teacher, labels, thresholds, self.temperature, ranking=self.grouping.ranked_by
        )
        weights = {"binary": self.alpha, "primary": self.beta, "secondary": self.lambda_}
        square = self.temperature**2
        return {
            name: (values, square * weights[name])
            for name, values in terms._asdict().items()
            if weights[name]
        }
