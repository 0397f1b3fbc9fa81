"""What several processes of one run must agree on."""

from __future__ import annotations

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.distributed.collectives import broadcast, gather_constant
from facedistill.errors import ConfigError


def is_lead() -> bool:
    """Whether this process is the one that writes files: rank 0, or the only one."""
    return not getattr(rank_zero_only, "rank", 0)


class SameRunEverywhere(Callback):
    """Refuses to start when processes were given different configurations, and validates one student.

    A launcher that replays a sweep in each process trains rank 0 on one configuration and rank 1 on another, and
    nothing fails (Lightning's script launcher under Hydra's multirun does).

    Without synchronized batch norm each process has running statistics of its own, and those of the first one are
    saved. At each validation all take these: what is measured is the student that is kept, also after a resume.

    Args:
        identity: Hash of this process's configuration, hexadecimal.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compares the hashes of all processes."""
        mine = torch.tensor([int(self.identity, 16)], dtype=torch.int64, device=trainer.strategy.root_device)
        everybody = [f"{number:08x}" for number in gather_constant(mine).tolist()]
        if len(set(everybody)) > 1:
            told = ", ".join(f"rank {rank}: {identity}" for rank, identity in enumerate(everybody))
            raise ConfigError(
                f"the processes of this run have different configurations ({told}); start every rank with the "
                "same overrides"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hands the first process's buffers of the student to all."""
        for buffer in pl_module.student.buffers():  # type: ignore[union-attr]
            broadcast(buffer)
