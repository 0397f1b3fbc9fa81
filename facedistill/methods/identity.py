"""The base class of methods with identity labels: a margin head and its loss next to the distillation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import global_mean
from facedistill.methods.base import DistillationMethod
from facedistill.system.devices import copied_to
from facedistill.types import FaceBatch, Requirements


class IdentityMethod(DistillationMethod):
    """A method whose objective is identity_weight · (margin softmax) + a loss of its own.

    With `identity_weight: 0` the head is not built, no label is needed, and a label-free method remains.

    Args:
        head: Margin head (`facedistill.models.heads`): `head(embeddings (N, D), labels (N,)) -> (N,)` losses.
            None is allowed where `identity_weight` is 0.
        identity_weight: Weight of the head's loss, >= 0.
        **kwargs: Those of `DistillationMethod`.
    """

    def __init__(self, *, head: nn.Module | None = None, identity_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert head is not None or not identity_weight, "an identity loss needs a head"
        self.identity_weight = identity_weight
        self._set_head(head if identity_weight else None)

    def _set_head(self, head: nn.Module | None) -> None:
        self.head = head
        # Parameters with other identities in each process (`ShardedHead`).
        own = getattr(head, "unaveraged", ())
        self._ddp_params_and_buffers_to_ignore = [f"head.{name}" for name in own]

    def configure_model(self) -> None:
        """Splits a sharded head: Lightning calls this once the process group exists."""
        if self.head is not None:
            self.head.divide()  # type: ignore[operator]

    @classmethod
    def requirements_with(cls, arguments: Mapping[str, Any]) -> Requirements:
        """Labels and a head on top of `requirements` where the identity loss has a weight."""
        if arguments.get("identity_weight", _default(cls, "identity_weight")):
            return replace(cls.requirements, labels=True, head=True)
        return cls.requirements

    def identity_loss(self, embeddings: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """The head's loss over the images drawn from the full set, as the term {"identity": ()}.

        Images of the balanced half (EKD) are left out, as in the released code. Empty when `identity_weight` is
        0. The mean is over all processes, so its gradient does not depend on how images are distributed.
        """
        return {} if self.head is None else {"identity": mean_head_loss(self.head, embeddings, batch)}

    def total(self, terms: Mapping[str, Tensor], /, **weights: float) -> Tensor:
        """Weighted sum of terms by name; `identity` has its own weight, a name without one has 1."""
        weights = {"identity": self.identity_weight, **weights}
        return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Joins the optimizer's state of split centers, since one process writes the checkpoint of all."""
        super().on_save_checkpoint(checkpoint)
        self._move_momentum(checkpoint, "joined")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes this process's part of the optimizer's state of split centers."""
        super().on_load_checkpoint(checkpoint)
        self._move_momentum(checkpoint, "split")

    def _move_momentum(self, checkpoint: dict[str, Any], move: Literal["joined", "split"]) -> None:
        learned = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        for place in [learned.index(n) for n in self._ddp_params_and_buffers_to_ignore if n in learned]:
            for saved in checkpoint.get("optimizer_states", ()):
                if place in saved["state"]:
                    moved = {
                        name: getattr(self.head, move)(value)
                        if isinstance(value, Tensor) and value.dim()
                        else value
                        for name, value in saved["state"][place].items()
                    }
                    saved["state"] = {
                        **saved["state"],
                        place: moved,
                    }  # leaves the optimizer's own dict unchanged


def mean_head_loss(head: nn.Module, embeddings: Tensor, batch: FaceBatch) -> Tensor:
    """() mean over all processes of a head's loss, over the images that are not of the balanced half."""
    assert batch.labels is not None
    labels = batch.labels
    general = general_images(batch)
    if general is not None:
        embeddings, labels = embeddings[general], labels[general]
    return global_mean(head(embeddings, labels))


def general_images(batch: FaceBatch) -> Tensor | None:
    """(M,) positions of the images that are not of the balanced half, on the device; None where all are alike."""
    if batch.balanced is None:
        return None
    return copied_to(batch.images.device, torch.nonzero(~batch.balanced.cpu()).squeeze(1))


def _default(method: type, argument: str) -> Any:
    """Default of a constructor's argument, which a base class may have behind `**kwargs`."""
    signatures = [
        inspect.signature(vars(kind)["__init__"]) for kind in method.__mro__ if "__init__" in vars(kind)
    ]
    return next(s.parameters[argument].default for s in signatures if argument in s.parameters)
