"""The validation that was due at a checkpoint and did not end before the fit was killed.

Lightning saves no validation that is under way, and a resumed fit takes one that was due for done.
"""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer

from facedistill.distributed.collectives import gather_constant


def lacks_validation(trainer: Trainer) -> bool:
    """Whether a validation was due at the checkpoint that the fit resumes from, and no logger has it; every process asks.

    A logger without `has_validation` cannot tell; if all are such, the validation is done again.
    """
    steps = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    if not steps or not trainer.val_check_batch or steps % trainer.val_check_batch or not trainer.loggers:
        return False
    logged = any(
        logger.has_validation(steps - 1) for logger in trainer.loggers if hasattr(logger, "has_validation")
    )
    # Only the first process writes the loggers' files.
    return not gather_constant(torch.tensor([int(logged)], device=trainer.strategy.root_device))[0].item()


def validate_now(trainer: Trainer) -> None:
    """Runs and logs a validation as Lightning does after a step; call it in `on_train_start`."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True
