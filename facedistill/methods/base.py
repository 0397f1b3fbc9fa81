"""What all methods share: optimizer, logging, progress in images, a teacher that stays out of checkpoints."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from facedistill.distributed.collectives import global_norm
from facedistill.methods.muon import matrices_of
from facedistill.methods.schedules import Constant, Schedule
from facedistill.methods.several import Compared, TeamProjections
from facedistill.models.teachers.team import TeacherTeam
from facedistill.types import FaceBatch, Requirements, StepOutput


class DistillationMethod(LightningModule):
    """A way of distilling; a subclass writes `distill`.

    Args:
        student: Backbone being trained, (N, 3, H, W) -> (N, D) un-normalized.
        teacher: `FrozenTeacher`, `TeacherTeam` where `requirements.several_teachers`, or None for a method that has none.
        optimizer: Makes the optimizer from the parameters that require a gradient.
        schedule: Factor on the learning rate by progress; constant when None.
    """

    paper: ClassVar[str] = ""
    requirements: ClassVar[Requirements] = Requirements()

    @classmethod
    def requirements_with(cls, arguments: Mapping[str, Any]) -> Requirements:
        """What the method requires when its constructor gets `arguments` (those of its yaml)."""
        return cls.requirements

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: nn.Module | None,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.projections: TeamProjections | None = None
        self.make_optimizer = optimizer
        self.schedule = schedule or Constant()
        self.images_seen = 0

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that learn: the student, and a method's other students."""
        return (self.student,)

    @property
    def progress(self) -> float:
        """Fraction of the image budget trained on so far, in [0, 1]; 0 outside a run."""
        data = getattr(self._trainer, "datamodule", None)
        return min(1.0, self.images_seen / (data.num_steps * data.batch_size)) if data else 0.0

    def teach(self, batch: FaceBatch) -> Tensor:
        """The teacher's embeddings (N, D), computed now or cached; never with a gradient."""
        kept = batch.teacher_embeddings
        several = self.teacher.embedding_dim if isinstance(self.teacher, TeacherTeam) else None
        if kept is not None and several in (
            None,
            kept.shape[1],
        ):  # a synthetic identity's are those of the first teacher
            return kept
        assert self.teacher is not None
        with torch.no_grad():
            return self.teacher(batch.seen_by_teacher)

    def compared(self, student: Tensor, teacher: Tensor) -> list[Compared]:
        """The student's embeddings (N, D) next to those of its teacher, or of each of several, as a method compares them."""
        if not isinstance(self.teacher, TeacherTeam):
            return [Compared("", 1.0, student, teacher)]
        team, each = self.teacher, self.teacher.comparable(teacher)
        ours = self.projections(student) if self.projections else [student] * len(each)
        return [Compared(*one) for one in zip(team.names, team.weights, ours, each, strict=True)]

    @abstractmethod
    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective of one batch. Logs nothing, moves no optimizer."""

    def on_fit_start(self) -> None:
        """Sets train mode: Lightning leaves a student that was loaded in eval mode in eval mode."""
        for network in self.networks:
            network.train()

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Returns the loss of one step and reports the agreement to the source of faces.

        The position in the stream moves here and not in a later hook, because callbacks that save checkpoints
        run before any later hook of this class.
        """
        output = self.distill(batch)
        # Closes SynthDistill's loop: the source renders the next faces by this agreement.
        self.trainer.datamodule.finish_step(output.agreement)  # type: ignore[attr-defined]
        self.images_seen += len(batch.images) * self.trainer.world_size
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        # Tensors, because Lightning copies numbers to the device and waits; not on its progress bar, which reads every step.
        self.log("train/loss", output.loss)
        for name, term in output.terms.items():
            self.log(f"train/{name}", term)
        self.log("images_seen", torch.tensor(float(self.images_seen)))
        self.log("lr", torch.as_tensor(lr, dtype=torch.float32))
        return output.loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Logs the agreement with a teacher of the same width on held-out faces; the first and each of several."""
        if self.teacher is None:
            return
        student, teacher = self.student(batch.images).float(), self.teacher(batch.images).float()
        lead, *others = self.compared(student, teacher)
        if lead.student.shape != lead.teacher.shape:
            return
        cosine = torch.cosine_similarity(lead.student, lead.teacher).mean()
        logged = {"val/cosine": cosine, "val/mse": (lead.student - lead.teacher).square().mean()}
        if self.projections:
            logged |= {
                f"val/cosine_{one.name}": torch.cosine_similarity(one.student, one.teacher).mean()
                for one in (lead, *others)
            }
        self.log_dict(logged, batch_size=len(batch.images), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Stamps the validation row with the progress it belongs to."""
        if not self.trainer.sanity_checking:
            self.log("images_seen", float(self.images_seen))

    def configure_optimizers(self) -> Any:
        """One optimizer over all trainable parameters; the learning rate is a function of the images seen."""
        # In float16 a fused optimizer removes the loss's scale itself, after the gradients are clipped.
        optimizer = self.build_optimizer(may_fuse=self.trainer.precision != "16-mixed")
        data = self.trainer.datamodule  # type: ignore[attr-defined]

        def factor(step: int) -> float:
            return self.schedule(step * data.batch_size, data.num_steps * data.batch_size)

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }

    def build_optimizer(self, *, may_fuse: bool = True) -> Optimizer:
        """The optimizer over all trainable parameters, with one kernel for all of them on a GPU if it has one."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        if "matrices" in inspect.signature(self.make_optimizer).parameters:  # heads and centers are no layers
            layers = (p for network in self.networks for p in network.parameters())
            return self.make_optimizer(parameters, matrices=matrices_of(layers))  # type: ignore[call-arg]
        fused = may_fuse and all(p.device.type == "cuda" for p in parameters)
        return self.make_optimizer(
            parameters, **({"fused": True} if fused and takes_fused(self.make_optimizer) else {})
        )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scales the gradient to at most `gradient_clip_val` in norm, that of all parameters of all processes.

        Lightning would take the norm of what this process has: with a sharded head another one in each, and the students
        of the processes would part.
        """
        if gradient_clip_val is None:
            return
        if isinstance(self.trainer.strategy, FSDPStrategy):
            self.trainer.strategy.model.clip_grad_norm_(gradient_clip_val)  # type: ignore[union-attr, operator]
            return
        own = set(getattr(self, "_ddp_params_and_buffers_to_ignore", ()))
        named = [(name, p) for name, p in self.named_parameters() if p.grad is not None]
        norm = global_norm(
            [p.grad for name, p in named if name not in own],  # type: ignore[misc]
            [p.grad for name, p in named if name in own],  # type: ignore[misc]
        )
        clip_grads_with_norm_([p for _, p in named], gradient_clip_val, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the progress counter; the teacher's state is empty by its own promise."""
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the progress counter."""
        self.images_seen = checkpoint["images_seen"]

    def forward(self, images: Tensor) -> Tensor:
        """Student embeddings (N, D) of faces (N, 3, H, W) in [-1, 1]."""
        return self.student(images)


def takes_fused(make_optimizer: Callable[..., Optimizer]) -> bool:
    """Whether an optimizer can update all parameters in one kernel, and the user has not chosen another way.

    >>> from functools import partial
    >>> takes_fused(torch.optim.AdamW), takes_fused(partial(torch.optim.SGD, foreach=True))
    (True, False)
    """
    chosen = getattr(make_optimizer, "keywords", {})
    return "fused" in inspect.signature(make_optimizer).parameters and not {"fused", "foreach"} & set(chosen)
