"""Verification during training, on generated pairs alone: no benchmark that a table reports may steer a run."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocol import PairsProtocol
from facedistill.metrics.verification import auc, tenfold_accuracy


class GeneratedPairsCheck(Callback):
    """Logs `val/accuracy` and `val/auc` of the student on the held-out generated pairs at each validation.

    Args:
        protocol: The generated pairs.
        batch_size: Faces per forward pass.
    """

    def __init__(self, protocol: PairsProtocol, *, batch_size: int = 64) -> None:
        self.protocol = protocol
        self.batch_size = batch_size

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Embeds the pairs' faces and scores them; every process does the same work on the same faces."""
        embeddings = embed(
            pl_module.student,  # type: ignore[arg-type]
            self.protocol,
            batch_size=self.batch_size,
            device=pl_module.device,
            quiet=True,
        )
        score, same = self.protocol.score(embeddings), self.protocol.same
        figures = {
            "val/accuracy": tenfold_accuracy(score, same, self.protocol.fold)[0],
            "val/auc": auc(score[same], score[~same]),
        }
        pl_module.log_dict({name: float(value) for name, value in figures.items()})
