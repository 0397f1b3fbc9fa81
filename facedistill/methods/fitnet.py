"""FitNets (Romero et al., ICLR 2015): a feature map of the student follows one of the teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from facedistill.distributed.collectives import global_mean
from facedistill.losses.feature_maps import hint_errors
from facedistill.losses.precision import at_least_float32
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.models.feature_maps import FeatureMapTap, read_teacher, teacher_tap
from facedistill.types import FaceBatch, Requirements, StepOutput


class FeatureMapMethod(IdentityMethod):
    """What methods on feature maps share: a tap in either network.

    The teacher always sees the images: cached embeddings have no feature map. With `identity_weight: 0`, nothing teaches the
    student's layers after the map, the embedding's among them: they stay as they are.

    Args:
        weight: Weight of the term on the maps, >= 0.
        size_px: Height and width of the maps; the last block of that size is read; of faces of 112 px, 7 is the
            last stage (TinyFaR: the last but one) and 14 the one before.
        student_layer: Dotted name of the student's layer, instead of `size_px`.
        teacher_layer: Dotted name of the teacher's layer, instead of `size_px`.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If a network has no such layer.
    """

    requirements = Requirements(feature_maps=True, reports_agreement=True)

    def __init__(
        self,
        *,
        weight: float,
        size_px: int = 7,
        student_layer: str | None = None,
        teacher_layer: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.student_tap = FeatureMapTap(
            self.student,
            key="method.student_layer",
            input_px=self.student.input_spec.size_px,  # type: ignore[union-attr, arg-type]
            name=student_layer,
            size_px=size_px,
        )
        self.teacher_tap = teacher_tap(self.teacher, name=teacher_layer, size_px=size_px)
        if not self.identity_weight:
            self.student_tap.freeze_rest()

    def map_errors(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compares maps (N, C, H, W) and (N, C', H', W'), giving (N,)."""
        raise NotImplementedError

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; the term is "feature_map"."""
        assert self.teacher is not None
        student, student_map = self.student_tap.read(lambda: self.student(batch.images))
        teacher, teacher_map = read_teacher(self.teacher, self.teacher_tap, batch.seen_by_teacher)  # type: ignore[arg-type]
        terms = self.identity_loss(student, batch)
        terms["feature_map"] = global_mean(self.map_errors(at_least_float32(student_map), teacher_map))
        return StepOutput(
            loss=self.total(terms, feature_map=self.weight),
            terms=terms,
            agreement=agreement(student, teacher),
        )


class FitNet(FeatureMapMethod):
    """L = identity_weight · margin softmax + weight · mean (r(h_S) - h_T)², r a learned 1x1 convolution.

    h are the maps of one layer each; where their sizes differ, the larger is average-pooled. FitNets first train
    up to the hint and then the full student; like RepDistiller, this trains both terms at once. RepDistiller's regressor
    ends with batch norm and ReLU, which fits a teacher's map after a ReLU; teachers of faces end in PReLU or a
    sum, so here it is the convolution alone. (TFace's "FitNet" is a squared error of embeddings: `embedding_mse`.)

    Args:
        weight: Weight of the hint; 100 in RepDistiller, for CIFAR.
        **kwargs: Those of `FeatureMapMethod`.
    """

    paper = "Romero et al., ICLR 2015"

    def __init__(self, *, weight: float = 100.0, **kwargs: Any) -> None:
        super().__init__(weight=weight, **kwargs)
        widths = self.student_tap.layer.channels, self.teacher_tap.layer.channels
        self.regressor = nn.Conv2d(*widths, kernel_size=1)

    def map_errors(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compares the regressed map with the teacher's."""
        return hint_errors(self.regressor(student), teacher)
