"""The one checkpoint of a run, always whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.errors import UserError


class LastCheckpoint(Callback):
    """Writes `last.ckpt` every so many images, when the fit ends and when it is interrupted.

    The new file is written beside the old one and then takes its name, so that an interruption or a full disk
    leaves the last good checkpoint.

    Args:
        path: Where the checkpoint lies.
        every_images: Images between two checkpoints.
    """

    def __init__(self, path: Path, *, every_images: int) -> None:
        self.path = path
        self.every_images = every_images
        self._saved_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts from where the fit starts, which after a resume is not zero."""
        self._saved_at = pl_module.images_seen  # type: ignore[assignment]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when enough images have gone by."""
        if pl_module.images_seen - self._saved_at >= self.every_images:  # type: ignore[operator]
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the finished state."""
        self._save(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves what an interruption (Ctrl-C, SIGTERM) would lose; after an error the last good one stays."""
        if isinstance(exception, KeyboardInterrupt | SystemExit) and trainer.global_step:
            self._save(trainer, pl_module)

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
