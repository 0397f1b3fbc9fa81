"""DDL, the distribution distillation loss (Huang et al., ECCV 2020): hard pairs are scored like easy ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from facedistill.distributed.collectives import gather, gather_constant, in_sample_order
from facedistill.errors import ConfigError
from facedistill.losses.pair_distributions import (
    PairSimilarities,
    ddl_terms,
    labeled_pairs,
    pairs_with_anchors,
)
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput


class DDL(IdentityMethod):
    """The student scores hard pairs as easy pairs are scored: genuine ones high, impostor ones low.

    L = identity_weight · L_margin + genuine_weight · KL(P⁺ ‖ Q⁺) + impostor_weight · KL(P⁻ ‖ Q⁻) + order_weight · L_order,
    with the distributions of `facedistill.losses.pair_distributions` over the gathered batch.

    In the paper one network embeds easy and hard photographs, which are chosen by resolution, pose or race. Faces here come
    without such a choice, so easy and hard are two views, and `pairs` says which pairs they make:

    - "labels": P are the frozen teacher's similarities on what it sees, Q the student's on what it sees. Genuine pairs are
      images of one identity. With `data.source.teacher_view=clean` the teacher sees the easy view, and the student the
      augmented, hard one.
    - "views": no labels. The student embeds both views; P are its similarities on the clean view and Q on the augmented one. The
      genuine pair of an image is that with the teacher's embedding of its clean view, its impostor pair the most similar
      other image of the batch. Needs `data.source.teacher_view=clean`, and costs a second forward pass.

    Args:
        genuine_weight: Weight of KL(P⁺ ‖ Q⁺), >= 0.
        impostor_weight: Weight of KL(P⁻ ‖ Q⁻), >= 0.
        order_weight: Weight of the order loss, >= 0.
        pairs: "labels" or "views".
        nodes: Of the histograms, over [-1, 1].
        width: Standard deviation of a pair in its histogram, in cosine, > 0.
        **kwargs: Those of `IdentityMethod`.
    """

    paper = "Huang et al., ECCV 2020"
    requirements = Requirements(labels=True, reports_agreement=True)

    def __init__(
        self,
        *,
        genuine_weight: float = 0.1,
        impostor_weight: float = 0.02,
        order_weight: float = 0.5,
        pairs: Literal["labels", "views"] = "labels",
        nodes: int = 201,
        width: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weights = {"genuine": genuine_weight, "impostor": impostor_weight, "order": order_weight}
        self.pairs = pairs
        self.nodes = nodes
        self.width = width

    @classmethod
    def requirements_with(cls, arguments: Mapping[str, Any]) -> Requirements:
        """Labels only where pairs or the identity loss need them; equal widths where views are compared."""
        required = super().requirements_with(arguments)
        if arguments.get("pairs") != "views":
            return required
        return replace(required, labels=required.head, equal_widths=True, clean_view=True)

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are `identity`, `genuine`, `impostor` and `order`, unweighted."""
        teacher = self.teach(batch)
        student, easy, hard = (
            self._by_views(batch, teacher) if self.pairs == "views" else self._by_labels(batch, teacher)
        )
        terms = self.identity_loss(student, batch) | ddl_terms(easy, hard, nodes=self.nodes, width=self.width)
        return StepOutput(self.total(terms, **self.weights), terms, agreement(student, teacher))

    def _by_labels(
        self, batch: FaceBatch, teacher: Tensor
    ) -> tuple[Tensor, PairSimilarities, PairSimilarities]:
        assert batch.labels is not None
        student = self.student(batch.images)
        # An image's genuine pair is with the next one, in the order of the global batch.
        gathered = gather_constant(teacher), gather(student), gather_constant(batch.labels)
        theirs, ours, labels = map(in_sample_order, gathered)
        return student, labeled_pairs(theirs, labels), labeled_pairs(ours, labels)

    def _by_views(
        self, batch: FaceBatch, teacher: Tensor
    ) -> tuple[Tensor, PairSimilarities, PairSimilarities]:
        if batch.teacher_images is None:
            raise ConfigError(
                "method.pairs=views: the teacher sees the faces that the student sees; set data.source.teacher_view=clean, or "
                "method.pairs=labels"
            )
        both = self.student(torch.cat([batch.images, batch.teacher_images.to(batch.images)]))
        anchors = gather_constant(teacher)
        hard, easy = (pairs_with_anchors(gather(view), anchors) for view in both.chunk(2))
        return both.chunk(2)[0], easy, hard
