"""Stops a run whose loss or weights are no longer numbers, before they reach a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from facedistill.errors import UserError


class FiniteOnly(Callback):
    """Refuses losses and weights that are infinite or NaN; the last good checkpoint stays.

    On a CPU each loss is looked at. On a GPU looking would make every step wait for the device, so the number of
    bad steps is counted there and read where the terms are logged anyway, and before each checkpoint. Weights
    are looked at before each checkpoint only: an update may spoil them while the loss before it was finite.

    Under `16-mixed` a loss may overflow now and then, the scaler skips that step; there `patience` steps in a row
    must be bad.

    Place it before the callback that saves.
    """

    def __init__(self) -> None:
        self._in_a_row: Tensor | None = None
        self._first: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts on the device, and looks where that costs nothing."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        if self._in_a_row is None or self._first is None:
            self._in_a_row = torch.zeros((), dtype=torch.int64, device=loss.device)
            self._first = torch.full_like(self._in_a_row, -1)
        patience = 20 if trainer.precision == "16-mixed" else 1
        self._in_a_row = torch.where(torch.isfinite(loss.detach()), 0, self._in_a_row + 1)
        begins = trainer.global_step - patience + 1
        self._first = torch.where((self._first < 0) & (self._in_a_row >= patience), begins, self._first)
        if loss.device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._look(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps what is not finite out of the checkpoint that is being written."""
        self._look(trainer, pl_module)
        with torch.no_grad():
            named = [(name, value) for name, value in pl_module.named_parameters() if value.requires_grad]
            sums = [value.detach().sum(dtype=torch.float64).cpu() for _, value in named]
        bad = [name for (name, _), value in zip(named, sums, strict=True) if not torch.isfinite(value)]
        if _anywhere(trainer, bool(bad)):
            where = f"the weights {bad[0]}" if bad else "weights of another process"
            raise UserError(
                f"{_name(pl_module)}: {where} are no longer finite after step {trainer.global_step}; {_MEND}"
            )

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        first = -1 if self._first is None else int(self._first)
        if not _anywhere(trainer, first >= 0):
            return
        terms = [
            f"{name.removeprefix('train/')} is {float(value)}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and not torch.isfinite(value)
        ]
        where = f"at step {first}" if first >= 0 else "in another process"
        if terms:
            where += f" ({', '.join(terms)})"
        raise UserError(f"{_name(pl_module)}: the loss is not finite {where}; {_MEND}")


_MEND = (
    "the last good checkpoint stays; lower optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32-true, "
    "which makes another run"
)


def _anywhere(trainer: Trainer, bad: bool) -> bool:
    """Whether any process has it, so that all stop together and none waits for another."""
    return trainer.strategy.reduce_boolean_decision(bad, all=False) if trainer.world_size > 1 else bad


def _name(pl_module: LightningModule) -> str:
    return type(pl_module).__name__
