"""Keeps the processes of one run consistent."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.distributed.collectives import broadcast, gather_constant
from facedistill.errors import ConfigError


class ConsistentProcesses(Callback):
    """Refuses processes with different configurations, and validates the same student in all of them.

    A launcher that repeats a sweep in each process (Lightning's script launcher under Hydra's multirun) trains rank 0
    and rank 1 on different configurations without an error.

    Without synchronized batch norm the running statistics differ between processes, and checkpoints hold those of
    rank 0. All processes take them before each validation, so that the saved student is the one that is measured.

    Args:
        run_id: Hash of this process's configuration, hexadecimal.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compares the run ids of all processes."""
        own = torch.tensor([int(self.run_id, 16)], dtype=torch.int64, device=trainer.strategy.root_device)
        run_ids = [f"{number:08x}" for number in gather_constant(own).tolist()]
        if len(set(run_ids)) > 1:
            listed = ", ".join(f"rank {rank}: {run_id}" for rank, run_id in enumerate(run_ids))
            raise ConfigError(
                f"the processes of this run have different configurations ({listed}); start every rank with the "
                "same overrides"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copies the student's buffers from rank 0 to all processes."""
        for buffer in pl_module.student.buffers():  # type: ignore[union-attr]
            broadcast(buffer)
