"""CoupleFace (Liu et al., ECCV 2022): embeddings, and their relations to other identities."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.distributed.collectives import gather_constant, global_mean
from facedistill.losses.embedding import cosine_distances
from facedistill.losses.relations_to_centers import nearest_identities, relation_excess
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class CoupleFace(IdentityMethod):
    """L = identity_weight · margin softmax + feature_weight · mean ‖s - t‖² + relation_weight · mean RAD.

    s, t are unit embeddings, so ‖s - t‖² = 2 - 2·cos (feature consistency); RAD is
    `facedistill.losses.relations_to_centers.relation_excess` over the `num_relations` identities nearest to the
    image. A center starts as the teacher's mean of its identity and is overwritten, after each step, by the
    teacher's embedding of the image just seen.

    The paper was not available here: formula, num_relations and tolerance follow third-party code, both weights
    are ours. Neighbors are searched for every image by its teacher embedding; where a global batch has an
    identity several times, its center becomes their mean, which does not depend on their order or process.

    Args:
        centers: (K, D) unit centers of the teacher.
        feature_weight: Weight of the feature consistency, >= 0.
        relation_weight: Weight of RAD, >= 0.
        num_relations: Other identities per image; 100.
        tolerance: Cosine by which the student may exceed the teacher; 0.03.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Liu et al., ECCV 2022"
    requirements = Requirements(labels=True, class_centers=True, equal_widths=True, reports_agreement=True)
    centers: Tensor

    def __init__(
        self,
        *,
        centers: Tensor,
        feature_weight: float = 1.0,
        relation_weight: float = 1.0,
        num_relations: int = 100,
        tolerance: float = 0.03,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.num_relations = num_relations
        self.tolerance = tolerance
        self.register_buffer("centers", F.normalize(centers.detach().float().clone()))

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are "feature" and "relation"."""
        assert batch.labels is not None
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        nearest = nearest_identities(teacher.detach(), batch.labels, self.centers, self.num_relations)
        terms["feature"] = global_mean(2 * cosine_distances(student, teacher))
        terms["relation"] = global_mean(
            relation_excess(student, teacher, self.centers[nearest], self.tolerance)
        )
        if self.training:
            self._overwrite_centers(teacher, batch.labels)
        loss = self.total(terms, feature=self.feature_weight, relation=self.relation_weight)
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    @torch.no_grad()
    def _overwrite_centers(self, teacher: Tensor, labels: Tensor) -> None:
        unit, labels = gather_constant(F.normalize(teacher.float())), gather_constant(labels)
        same = (labels[:, None] == labels[None, :]).to(unit.dtype)
        with torch.autocast(unit.device.type, enabled=False):
            self.centers[labels] = F.normalize(same @ unit).to(self.centers.dtype)
