"""What every source of training faces provides."""

# ruff: noqa: B027 -- the empty methods are optional hooks

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from facedistill.data.augment import Augment
from facedistill.errors import ConfigError
from facedistill.models.teachers.team import Teacher
from facedistill.types import FaceBatch, Offers

Compare = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (N, 3, 112, 112) to the cosine of student and teacher (N,) and the teacher's embeddings (N, D)."""
TeacherView = Literal["same", "clean"]
"""Which images the teacher sees: the student's, or those before the augmentation."""


class OnHost:
    """Values of a raw batch that stay on the host: what pins and moves batches would make tensors of the device of them."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values


class Source(ABC):
    """Where training faces come from.

    A step's batch is made in two parts: `raw` on the CPU, in a worker process, and `finish` on the device. The other
    methods have defaults for a stream that is a function of (seed, step) and keeps no state.

    Attributes:
        offers: What the faces come with; a class attribute, so that a configuration is checked before it is built.
        stores_images: Whether `stored_images` gives images for validation; else they are generated. A class attribute.
        needs_agreement: Whether `observe` must be given the agreement of student and teacher.
        num_identities: K; None for unlabeled faces.
        num_images: N of a finite set; None for a stream.
        state_per_process: The setting that makes each process keep a state of its own; None where none does.
        checkpoint_within_images: Most images between two checkpoints that the stored state allows; None for any.
        seed: The run's seed.
        augment: Drawn in `raw` and applied in `finish` to every batch; None for nothing.
        teacher_view: "same": the teacher sees the student's images; "clean": those before the augmentation.
    """

    offers: Offers
    stores_images: bool = False
    needs_agreement: bool = False
    num_identities: int | None = None
    num_images: int | None = None
    state_per_process: str | None = None
    checkpoint_within_images: int | None = None
    seed: int
    augment: Augment | None = None
    teacher_view: TeacherView = "same"

    @abstractmethod
    def raw(self, number: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """This rank's share of step `number`, prepared on the CPU: every `world_size`-th sample from `rank` on."""

    @abstractmethod
    def finish(self, raw: Mapping[str, Any]) -> FaceBatch:
        """Turns a raw batch into faces, on the device."""

    def changes(self, *, step: int, samples: Tensor) -> dict[str, Any]:
        """The part of a raw batch that `views` needs: what changes the images at the positions `samples` (n,) of the step."""
        if self.augment is None:
            return {}
        drawn: dict[str, Any] = {"step": step, "samples": samples}
        if not hasattr(self.augment, "prepare"):  # a user's own class, which draws when it is called
            return {"changes": OnHost(drawn)}
        return {"changes": self.augment.prepare(seed=self.seed, **drawn)}

    def views(self, images: Tensor, raw: Mapping[str, Any]) -> dict[str, Tensor]:
        """What student and teacher see of `images` (n, 3, H, W) in [-1, 1], as arguments of `FaceBatch`."""
        if self.augment is None:
            return {"images": images}
        changes = raw["changes"]
        if isinstance(changes, OnHost):
            changed = {"images": self.augment(images, seed=self.seed, **changes.values)}
        else:
            changed = {"images": self.augment.apply(images, changes)}
        return changed if self.teacher_view == "same" else {**changed, "teacher_images": images}

    def open(self, folder: Path, *, resume: bool, rank: int = 0) -> None:
        """Opens what the source keeps in the run's folder, before training.

        Args:
            folder: Of the run.
            resume: Whether training continues from a checkpoint.
            rank: Of this process.
        """

    def observe(self, raw_step: int, agreement: Tensor) -> None:
        """Receives the agreement (N,) of student and teacher on the batch of step `raw_step`."""

    def cache_teacher(self, teacher: Teacher) -> None:
        """Embeds the whole set with the teacher, once, and adds the embeddings to each batch.

        Raises:
            ConfigError: If the source is a stream.
        """
        raise ConfigError(
            f"data.teacher_cache=true: {type(self).__name__} has no fixed set of faces; set it to false"
        )

    def embed_set(self, teacher: Teacher) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (N, D) and the labels (N,) of a set that offers class centers."""
        raise NotImplementedError(f"{type(self).__name__} offers no class centers")

    def stored_images(self, number: int) -> Tensor:
        """(M, 3, 112, 112) uint8 images spread over the set, M <= `number`, not augmented; where `stores_images` is true."""
        raise NotImplementedError(f"{type(self).__name__} stores no images")

    def held_out_images(self) -> Tensor | None:
        """(M, 3, 112, 112) uint8 images that are never trained on, for validation next to generated faces; or None."""
        return None

    def example_faces(self, compare: Compare, num_faces: int) -> dict[str, Tensor] | None:
        """Held-out faces for the report, with the figures that it shows; None where it shows none."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """The part of the stream that is not a function of (seed, step)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`."""

    def close(self) -> None:
        """Deletes what only training needed."""
