"""Grouped knowledge distillation (GKD; Zhao, Zhu, Guo, Zhang, Lei; AAAI 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from facedistill.losses.grouping import Grouping, GroupingRule, Network
from facedistill.losses.groups import WeightedTerms, gkd_terms
from facedistill.methods.logits import LogitMethod


class GKD(LogitMethod):
    """L = identity_weight · CE + weight · ramp · t² · (alpha · binary + beta · primary + lambda · secondary).

    The identities fall into a primary group, which the label always belongs to, and the rest: `Grouping` has the
    three rules, `facedistill.losses.groups.gkd` the terms and the differences from the released code. Another
    difference: the teacher's classifier is derived (`LogitMethod`), the released one was trained with it.

    With a sharded head (`head=cosface_sharded`) the group and the terms are computed from partial sums: the same loss
    and gradient, and no process has all K logits.

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
    requirements = replace(LogitMethod.requirements, unsplit_logits=False)

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

    def divergences(self, student: Tensor, teacher: Tensor, labels: Tensor) -> WeightedTerms:
        """The terms "binary" and "primary", and "secondary" where it has a weight."""
        return gkd_terms(
            student, teacher, labels, self.grouping, alpha=self.alpha, beta=self.beta, lambda_=self.lambda_,
            temperature=self.temperature, partition=self._logit_head.partition,
        )  # fmt: skip
