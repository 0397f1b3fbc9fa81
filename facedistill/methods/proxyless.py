"""ProxylessKD, also ArcDistill or TH-KD: the student learns to be classified by the teacher's centers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facedistill.methods.identity import IdentityMethod
from facedistill.methods.supervised import require_identity_weight
from facedistill.models.heads import MarginHead, ShardedHead
from facedistill.types import FaceBatch, Requirements, StepOutput


class Proxyless(IdentityMethod):
    """L = margin softmax of the student's embedding on frozen teacher centers (Shi et al., arXiv 2011.00265).

    The head keeps its margin, but its centers are the teacher's, one per identity, and never learn. They are a trained
    classifier's or, for a teacher that came without one, means of its embeddings; the authors always have the former.
    Student and teacher embeddings must be of one width.

    Args:
        head: Margin head with one center per identity.
        centers: (K, D) unit teacher centers.
        **kwargs: Those of `IdentityMethod`; `identity_weight` must be above 0.

    Raises:
        ConfigError: If the student's width is not that of the centers.
    """

    paper = "Shi et al., arXiv 2011.00265; ArcDistill in Boutros et al., ECCV 2024"
    requirements = Requirements(
        labels=True, class_centers=True, equal_widths=True, identity_loss=True, one_center=True
    )

    def __init__(self, *, head: MarginHead | ShardedHead, centers: Tensor, **kwargs: Any) -> None:
        super().__init__(head=head, **kwargs)
        require_identity_weight(self)
        head.freeze(centers)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the only term is "identity"."""
        terms = self.identity_loss(self.student(batch.images), batch)
        return StepOutput(loss=self.total(terms), terms=terms)
