"""The one checkpoint of a run, always whole, always between two steps."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.errors import UserError


class LastCheckpoint(Callback):
    """Writes `last.ckpt` every so many images, when the fit ends and when it is interrupted.

    The new file is written beside the old one and then takes its name, so that a kill or a full disk leaves the
    last good checkpoint. The first Ctrl-C or SIGTERM lets the step finish, saves, and stops the fit as
    KeyboardInterrupt does; a second one stops at once.

    Args:
        path: Where the checkpoint lies.
        every_images: Images between two checkpoints.
    """

    def __init__(self, path: Path, *, every_images: int) -> None:
        self.path = path
        self.every_images = every_images
        self._saved_at = 0
        self._stop = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts from where the fit starts, which after a resume is not zero, and listens for interruptions."""
        self._saved_at = pl_module.images_seen  # type: ignore[assignment]
        self._stop = False
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._interrupt)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when enough images have gone by, or when somebody wants any process of the run to stop."""
        if trainer.world_size > 1:  # all stop after the same step, whoever received the signal
            self._stop = trainer.strategy.reduce_boolean_decision(self._stop, all=False)
        if self._stop or pl_module.images_seen - self._saved_at >= self.every_images:  # type: ignore[operator]
            self._save(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stops an interrupted run here, once the step it finished is saved and logged."""
        if self._stop:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the finished state."""
        self._save(trainer, pl_module)
        self._listen_no_more()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves nothing: whatever went wrong in the middle of a step, the last good checkpoint stays."""
        self._listen_no_more()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True

    def _listen_no_more(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        unfinished = self.path.with_suffix(".ckpt.part")
        try:
            trainer.save_checkpoint(unfinished)
            if trainer.is_global_zero:
                os.replace(unfinished, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            unfinished.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"cannot write the checkpoint {self.path} ({reason}); the last good one stays: free some space and "
                "give the same command again to continue from it"
            ) from error
        self._saved_at = pl_module.images_seen  # type: ignore[assignment]


def check_readable(path: Path) -> None:
    """Refuses a checkpoint that cannot be continued from.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is damaged and cannot be continued; force=true starts the run over"
        ) from error
