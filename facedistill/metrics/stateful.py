"""The verification figures as a torchmetrics `Metric`: a container that gathers, never a formula.

torchmetrics' own binary ROC family applies a sigmoid to scores outside [0, 1], so none of it is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from facedistill.metrics.verification import verification_summary


class VerificationMetric(Metric):
    """Collects scores over batches and processes; each pair counts once, however often a sampler repeats it.

    Args:
        resamples: Bootstrap samples of the intervals.
        **kwargs: Passed on to `torchmetrics.Metric`.
    """

    full_state_update = False
    score: list[Tensor]
    same: list[Tensor]
    fold: list[Tensor]
    index: list[Tensor]

    def __init__(self, resamples: int = 500, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resamples = resamples
        for name in ("score", "same", "fold", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, score: Tensor, same: Tensor, fold: Tensor, index: Tensor) -> None:
        """Adds pairs.

        Args:
            score: (P,) scores.
            same: (P,) true for genuine pairs.
            fold: (P,) fold of each pair.
            index: (P,) number of each pair within the protocol; a repeated number is a padded duplicate.
        """
        self.score.append(score.detach())
        self.same.append(same)
        self.fold.append(fold)
        self.index.append(index)

    def compute(self) -> dict[str, Any]:
        """The summary of `verification_summary` over all distinct pairs seen."""
        index = dim_zero_cat(self.index)
        distinct, place = torch.unique(index, return_inverse=True)
        first = torch.empty_like(distinct).scatter_(0, place, torch.arange(len(index), device=index.device))
        score, same, fold = (dim_zero_cat(state)[first] for state in (self.score, self.same, self.fold))
        return verification_summary(score, same, fold, resamples=self.resamples)
