"""The callback that saves checkpoints, always between two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.distributed.collectives import gather_constant, lost_a_process
from facedistill.errors import Interrupted, UserError, reason
from facedistill.runs.checkpointing.files import replace_checkpoint
from facedistill.runs.checkpointing.interruption import Interruption
from facedistill.runs.checkpointing.origin import Origin
from facedistill.runs.checkpointing.random_state import random_states, restore
from facedistill.runs.checkpointing.validation import lacks_validation, validate_now
from facedistill.system.files import UNFINISHED
from facedistill.system.messages import print_message


class LastCheckpoint(Callback):
    """Writes `last.ckpt` every `every_images` images, when the fit ends and when it is interrupted.

    The new file is written under another name, flushed to the disk and renamed; the old one becomes `previous.ckpt`.
    After a kill, a full disk or a torn write one of them is intact. The first Ctrl-C, SIGTERM or SIGUSR1 lets the step
    finish, saves, and stops the fit as KeyboardInterrupt does; a second one stops at once.

    A validation that is due at a checkpoint follows it. If it did not end, the resumed fit starts with it. Lightning
    does not resume a fit after its last step, so that step's checkpoint follows the validation.

    In addition to what Lightning saves, a checkpoint holds its `Origin` and the random states of all processes.

    Args:
        path: Of the checkpoint.
        every_images: Images between two checkpoints.
        origin: What the result of the run depends on.
        own_state: The setting that gives each process a state of its own ("data.source.replay"), if any. Such a run
            can only be continued by as many processes as before.

    Attributes:
        interruption: The signal that stopped the fit, if any.
    """

    def __init__(
        self,
        path: Path,
        *,
        every_images: int,
        origin: Origin | None = None,
        own_state: str | None = None,
    ) -> None:
        self.path = path
        self.every_images = every_images
        self.origin = origin
        self.own_state = own_state
        self.interruption = Interruption()
        self._saved_at = 0
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts images from the start of this fit, which is not zero after a resume, and handles signals."""
        self._saved_at = pl_module.images_seen  # type: ignore[assignment]
        for logger in trainer.loggers:
            if hasattr(logger, "continue_from"):
                logger.continue_from(trainer.global_step)
        self.interruption.start(says=trainer.is_global_zero)
        if lacks_validation(trainer):
            validate_now(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if a checkpoint is due or any process was asked to stop, and then stops.

        Raises:
            Interrupted: If a process was asked to stop.
        """
        stop = self._asked_to_stop(trainer)
        if trainer.global_step == trainer.max_steps:
            return
        if stop or pl_module.images_seen - self._saved_at >= self.every_images:  # type: ignore[operator]
            # Lightning logs the step after this hook; a kill in between would leave a gap in the curve.
            trainer._logger_connector.update_train_step_metrics()
            self._save(trainer, pl_module)
        if stop:
            raise Interrupted(self.interruption.number or 0)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restores the random states: anything that starts before the first step may draw numbers."""
        if self._random is not None:
            restore(self._random)
            self._random = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the figures, which are logged by now, to the disk."""
        _flush_loggers(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the finished state."""
        self._save(trainer, pl_module)
        self.interruption.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves nothing: the error may have happened in the middle of a step."""
        self.interruption.stop()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds random states and origin; every process takes part."""
        checkpoint["random_states"] = random_states()
        if self.origin is not None:
            checkpoint["origin"] = self.origin.as_dict()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps this process's random state for the first step, if the number of processes is the same.

        Raises:
            UserError: If it is not, and each process has a state of its own.
        """
        states, processes = checkpoint.get("random_states", []), trainer.world_size
        if len(states) == processes:
            self._random = states[trainer.global_rank]
            return
        change = f"{self.path} was made by {len(states)} process(es) and this run has {processes}"
        if self.own_state:
            raise UserError(
                f"{change}: with {self.own_state} each keeps its own state; continue with {len(states)}"
            )
        if trainer.is_global_zero:
            print_message(f"{change}: faces and losses are the same up to rounding, except for dropout")

    def _asked_to_stop(self, trainer: Trainer) -> bool:
        """Whether any process has received a signal; all processes stop after the same step.

        The exchange makes a GPU wait, so there it happens every `log_every_n_steps` only.
        """
        interruption = self.interruption
        device = trainer.strategy.root_device
        if trainer.world_size == 1:
            return interruption.number is not None
        if device.type != "cpu" and trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return False
        number = int(gather_constant(torch.tensor([interruption.number or 0], device=device)).max())
        if number:
            interruption.number = number
        return bool(number)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _flush_loggers(trainer)
        unfinished = self.path.with_name(f".{self.path.name}{UNFINISHED}")
        try:
            trainer.save_checkpoint(unfinished)
            if trainer.is_global_zero:
                replace_checkpoint(unfinished, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            # torch also raises the death of a data worker here, if that is where this process happens to be.
            if not trainer.is_global_zero or lost_a_process(error) or "DataLoader worker" in str(error):
                raise
            unfinished.unlink(missing_ok=True)
            raise UserError(
                f"cannot write the checkpoint {self.path} ({reason(error)}); the last good one stays: free some space and "
                "give the same command again to continue from it"
            ) from error
        self._saved_at = pl_module.images_seen  # type: ignore[assignment]


def _flush_loggers(trainer: Trainer) -> None:
    """Writes the rows logged so far to the disk."""
    for logger in trainer.loggers:
        if hasattr(logger, "flush"):
            logger.flush()
