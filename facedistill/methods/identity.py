"""What methods with identity labels share: a margin head and its loss beside the distillation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import global_mean
from facedistill.methods.base import DistillationMethod
from facedistill.models.heads.sharded import ShardedHead
from facedistill.types import FaceBatch, Requirements


class IdentityMethod(DistillationMethod):
    """A method whose objective is identity_weight · (margin softmax) + something of its own.

    With `identity_weight: 0` the head is not built, no label is needed, and a label-free method remains.

    Args:
        head: Margin head (`facedistill.models.heads`): `head(embeddings (N, D), labels (N,)) -> (N,)` losses.
            None is allowed where `identity_weight` is 0.
        identity_weight: Weight of the head's loss, >= 0.
        **kwargs: Those of `DistillationMethod`.
    """

    def __init__(self, *, head: nn.Module | None = None, identity_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.identity_weight = identity_weight
        self.head = head if identity_weight else None
        assert self.head is not None or not identity_weight, "an identity loss needs a head"
        own = getattr(
            self.head, "unaveraged", ()
        )  # shares of a sharded head: other identities in each process
        self._ddp_params_and_buffers_to_ignore = [f"head.{name}" for name in own]

    def configure_model(self) -> None:
        """Divides a sharded head: Lightning calls this once the processes know one another."""
        if isinstance(self.head, ShardedHead):
            self.head.divide()

    @classmethod
    def requirements_with(cls, arguments: Mapping[str, Any]) -> Requirements:
        """Labels and a head on top of `requirements` where the identity loss has a weight."""
        if arguments.get("identity_weight", _default(cls, "identity_weight")):
            return replace(cls.requirements, labels=True, head=True)
        return cls.requirements

    def identity_loss(self, embeddings: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """The head's loss over the images drawn from the set as a whole, as the term {"identity": ()}.

        Images of the balanced half (EKD) are left out, as in the released code. Empty when `identity_weight` is
        0. The mean is over all processes, so its gradient does not depend on how images are dealt out.
        """
        if self.head is None:
            return {}
        assert batch.labels is not None
        labels = batch.labels
        if batch.balanced is not None:
            kept = torch.nonzero(~batch.balanced).squeeze(1)
            embeddings, labels = embeddings[kept], labels[kept]
        return {"identity": global_mean(self.head(embeddings, labels))}

    def total(self, terms: Mapping[str, Tensor], **weights: float) -> Tensor:
        """Weighted sum of terms by name; `identity` has its own weight, a name without one has 1."""
        weights = {"identity": self.identity_weight, **weights}
        return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Joins what an optimizer keeps beside split centers, since one process writes the checkpoint of all."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.head, ShardedHead):
            self._move_momentum(checkpoint, self.head.share.weight, self.head.joined)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes this process's part of what the optimizer kept."""
        super().on_load_checkpoint(checkpoint)
        if isinstance(self.head, ShardedHead):
            self._move_momentum(checkpoint, self.head.share.weight, self.head.split)

    def _move_momentum(
        self, checkpoint: dict[str, Any], centers: nn.Parameter, move: Callable[[Tensor], Tensor]
    ) -> None:
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        place = next((place for place, parameter in enumerate(learned) if parameter is centers), None)
        for kept in checkpoint.get("optimizer_states", ()):
            if place in kept["state"]:
                moved = {
                    name: move(value) if isinstance(value, Tensor) and value.dim() else value
                    for name, value in kept["state"][place].items()
                }
                kept["state"] = {**kept["state"], place: moved}  # the optimizer's own stays as it is


def _default(method: type, argument: str) -> Any:
    """Default of a constructor's argument, which a base class may have behind `**kwargs`."""
    signatures = [
        inspect.signature(vars(kind)["__init__"]) for kind in method.__mro__ if "__init__" in vars(kind)
    ]
    return next(s.parameters[argument].default for s in signatures if argument in s.parameters)
