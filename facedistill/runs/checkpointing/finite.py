"""Stops a run whose loss or weights are infinite or NaN, before they reach a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from facedistill.errors import UserError

_FIX = (
    "the last good checkpoint stays; lower optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32-true, "
    "which makes another run"
)


class FiniteOnly(Callback):
    """Stops the run when the loss or a weight is infinite or NaN; the last good checkpoint stays.

    On a CPU every loss is checked. On a GPU a check waits for the device, so bad steps are counted on the device, and
    the count is read when the terms are logged and before each checkpoint. Weights are checked before each checkpoint:
    an update may make them infinite although the loss before it was finite.

    With `16-mixed` the loss overflows occasionally and the gradient scaler skips that step, so 20 bad steps in a row
    stop the run.

    Put it before the callback that saves.
    """

    def __init__(self) -> None:
        self._bad_in_a_row: Tensor | None = None
        self._first_bad: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts bad steps on the device."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        if self._bad_in_a_row is None or self._first_bad is None:
            self._bad_in_a_row = torch.zeros((), dtype=torch.int64, device=loss.device)
            self._first_bad = torch.full_like(self._bad_in_a_row, -1)
        patience = 20 if trainer.precision == "16-mixed" else 1
        self._bad_in_a_row = torch.where(torch.isfinite(loss.detach()), 0, self._bad_in_a_row + 1)
        is_first = (self._first_bad < 0) & (self._bad_in_a_row >= patience)
        self._first_bad = torch.where(is_first, trainer.global_step - patience + 1, self._first_bad)
        if loss.device.type == "cpu" or trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check_loss(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Checks the losses so far and the weights.

        Raises:
            UserError: If one is not finite.
        """
        self._check_loss(trainer, pl_module)
        with torch.no_grad():
            named = [(name, value) for name, value in pl_module.named_parameters() if value.requires_grad]
            sums = [value.detach().sum(dtype=torch.float64).cpu() for _, value in named]
        bad = [name for (name, _), value in zip(named, sums, strict=True) if not torch.isfinite(value)]
        if _in_any_process(trainer, bool(bad)):
            where = f"the weights {bad[0]}" if bad else "weights of another process"
            raise UserError(
                f"{type(pl_module).__name__}: {where} are no longer finite after step {trainer.global_step}; {_FIX}"
            )

    def _check_loss(self, trainer: Trainer, pl_module: LightningModule) -> None:
        first = -1 if self._first_bad is None else int(self._first_bad)
        if not _in_any_process(trainer, first >= 0):
            return
        terms = [
            f"{name.removeprefix('train/')} is {float(value)}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and not torch.isfinite(value)
        ]
        where = f"at step {first}" if first >= 0 else "in another process"
        if terms:
            where += f" ({', '.join(terms)})"
        raise UserError(f"{type(pl_module).__name__}: the loss is not finite {where}; {_FIX}")


def _in_any_process(trainer: Trainer, bad: bool) -> bool:
    """Whether `bad` is true in any process, so that all processes stop together."""
    return trainer.strategy.reduce_boolean_decision(bad, all=False) if trainer.world_size > 1 else bad
