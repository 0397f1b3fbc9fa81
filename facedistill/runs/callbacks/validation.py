"""Verification during training, on validation pairs that share no face with the pairs that tables report."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.errors import DataError
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.metrics.verification import auc, tenfold_accuracy
from facedistill.system.messages import print_message


class GeneratedPairsCheck(Callback):
    """Logs `val/accuracy` and `val/auc` of the student on generated pairs at each validation.

    Args:
        protocol: The validation pairs, `generated_protocol(…, purpose="validation")`.
    """

    def __init__(self, protocol: PairsProtocol) -> None:
        if protocol.name != "validation":
            raise ValueError(f"training may only use the validation pairs, got {protocol.name}")
        self.protocol = protocol

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Embeds the faces, divided among the processes, and scores the pairs; all processes log the same figures."""
        embeddings = embed(
            pl_module.student,  # type: ignore[arg-type]
            self.protocol,
            batch_size=64,
            device=pl_module.device,
            shared=True,
            quiet=True,
        )
        same = self.protocol.same
        try:
            score = self.protocol.score(embeddings)
        except (
            DataError
        ) as error:  # the run goes on: it may recover, and `FiniteOnly` stops it where it cannot
            if trainer.is_global_zero:
                print_message(f"step {trainer.global_step}: {error}; val/accuracy and val/auc are chance")
            score = torch.zeros(len(same))
        accuracy, _, _ = tenfold_accuracy(score, same, self.protocol.fold)
        pl_module.log_dict({"val/accuracy": accuracy.item(), "val/auc": auc(score[same], score[~same])})
