"""A method put together from losses in YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import gather, gather_constant
from facedistill.errors import ConfigError
from facedistill.losses.precision import at_least_float32
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.types import FaceBatch, Requirements, StepOutput

Loss = Callable[[Tensor, Tensor], Tensor]


class WeightedSum(IdentityMethod):
    """L = sum_i weight_i · loss_i(F_S(x), F_T(x))  [+ identity_weight · margin softmax]

    Every loss sees the raw embeddings of the whole global batch, (N, D) each in float32 and outside autocast, and gives
    a scalar (), or (N,) values, whose mean is taken; so it may compare images with one another, and any number of
    processes gives the same.

        losses:
          mse: {weight: 1.0, loss: {_target_: facedistill.losses.embedding.embedding_mse, _partial_: true}}

    Args:
        losses: By name, or as a list whose items have a `name`: each has a `weight` (1 where absent) and a `loss`, a
            callable (student, teacher) -> () or (N,). A loss with parameters is an `nn.Module`, and learns.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If there is no loss, two have one name, or an item is not as described.
    """

    paper = "ours"
    requirements = Requirements(equal_widths=True, reports_agreement=True)

    def __init__(
        self,
        *,
        losses: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
        identity_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(identity_weight=identity_weight, **kwargs)
        items = _named(losses)
        self.weights = {name: float(item.get("weight", 1.0)) for name, item in items.items()}
        self.losses: dict[str, Loss] = {name: item["loss"] for name, item in items.items()}
        self.learned_losses = nn.ModuleList(
            loss for loss in self.losses.values() if isinstance(loss, nn.Module)
        )

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; one term per loss, by its name."""
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        all_students, all_teachers = (
            gather(at_least_float32(student)),
            gather_constant(at_least_float32(teacher)),
        )
        with torch.autocast(student.device.type, enabled=False):
            for name, loss in self.losses.items():
                terms[name] = loss(all_students, all_teachers).mean()
        return StepOutput(
            loss=self.total(terms, **self.weights), terms=terms, agreement=agreement(student, teacher)
        )


def _named(losses: Any) -> dict[str, Mapping[str, Any]]:
    pairs = list(losses.items()) if isinstance(losses, Mapping) else [(_name(i), i) for i in losses or ()]
    if not pairs:
        raise ConfigError("method.losses: is empty; name at least one loss with its _target_ and weight")
    seen: set[str] = set()
    for name, item in pairs:
        if name in seen or name in ("identity", "loss"):  # "loss" is their sum in the logs
            raise ConfigError(f"method.losses: two losses are named {name}; give each its own name")
        seen.add(name)
        if not isinstance(item, Mapping) or not callable(item.get("loss")):
            raise ConfigError(
                f"method.losses.{name}: needs a loss with a _target_, and _partial_: true if that is a function"
            )
    return dict(pairs)


def _name(item: Any) -> str:
    name = item.get("name") if isinstance(item, Mapping) else None
    if not name:
        raise ConfigError(f"method.losses: an item of the list has no name, got {item!r}; give it a name")
    return str(name)
