"""Verification during training, on the validation pairs alone: nothing that a table reports may steer a run."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.metrics.verification import auc, tenfold_accuracy


class GeneratedPairsCheck(Callback):
    """Logs `val/accuracy` and `val/auc` of the student on generated pairs at each validation.

    Args:
        protocol: The validation pairs, `generated_protocol(…, purpose="validation")`.
        batch_size: Faces per forward pass.
    """

    def __init__(self, protocol: PairsProtocol, *, batch_size: int = 64) -> None:
        if protocol.name != "validation":
            raise ValueError(f"only the validation pairs may be watched during training, got {protocol.name}")
        self.protocol = protocol
        self.batch_size = batch_size

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Embeds the pairs' faces, each process its share, and scores them; all log the same figures."""
        embeddings = embed(
            pl_module.student,  # type: ignore[arg-type]
            self.protocol,
            batch_size=self.batch_size,
            device=pl_module.device,
            shared=True,
            quiet=True,
        )
        score, same = self.protocol.score(embeddings), self.protocol.same
        accuracy, _, _ = tenfold_accuracy(score, same, self.protocol.fold)
        pl_module.log_dict({"val/accuracy": accuracy.item(), "val/auc": auc(score[same], score[~same])})
