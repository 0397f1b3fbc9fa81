"""Deep mutual learning (Zhang, Xiang, Hospedales, Lu; CVPR 2018): two students, no teacher."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from facedistill.distributed.collectives import global_mean
from facedistill.errors import ConfigError
from facedistill.losses.logits import kd
from facedistill.methods.identity import IdentityMethod, mean_head_loss
from facedistill.types import FaceBatch, Requirements, StepOutput


class Mutual(IdentityMethod):
    """L = identity_weight · (CE + CE_peer) + weight · (KL(p_peer ‖ p) + KL(p ‖ p_peer)), either KL with a fixed target.

    CE is the margin softmax of each student's own head; p are softmaxes of either head's logits without margin.
    Both students learn from the same batch at once (the paper alternates); the peer and its head have their own
    parameters, are in the checkpoint, and are not exported. A teacher, if one is configured, is only
    used in validation.

    Args:
        peer: Second student of the same architecture, other initial weights.
        weight: Weight of both divergences, >= 0.
        temperature: Divisor of the logits; 1 in the paper, whose logits have no scale of 64.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If `identity_weight` is 0, or the head does not have all logits.
    """

    paper = "Zhang et al., CVPR 2018"
    requirements = Requirements(
        labels=True, teacher=False, identity_loss=True, all_logits=True, unsplit_logits=True
    )

    def __init__(
        self, *, peer: nn.Module, weight: float = 1.0, temperature: float = 1.0, **kwargs: Any
    ) -> None:
        if not kwargs.get("identity_weight", 1.0):
            raise ConfigError(
                "method.identity_weight=0: mutual learning compares identity logits, which need a head; "
                "set it above 0"
            )
        super().__init__(**kwargs)
        assert self.head is not None
        if self.head.is_split:
            raise ConfigError(
                f"head: Mutual needs the logits of all identities in each process, and {type(self.head).__name__} "
                "splits them; choose another head, such as head=arcface"
            )
        self.weight = weight
        self.temperature = temperature
        self.peer = peer
        self.peer_head = copy.deepcopy(self.head)
        centers: nn.Parameter = self.peer_head.weight  # type: ignore[assignment]
        nn.init.normal_(centers, std=float(centers.detach().std()))

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are "identity", "peer_identity", "divergence" and "peer_divergence"."""
        assert self.head is not None
        student, peer = self.student(batch.images), self.peer(batch.images)
        terms = self.identity_loss(student, batch)
        terms["peer_identity"] = mean_head_loss(self.peer_head, peer, batch)
        logits, peer_logits = self.head.logits(student), self.peer_head.logits(peer)  # type: ignore[operator]
        terms["divergence"] = global_mean(kd(logits, peer_logits, temperature=self.temperature))
        terms["peer_divergence"] = global_mean(kd(peer_logits, logits, temperature=self.temperature))
        loss = self.total(
            terms,
            peer_identity=self.identity_weight,
            divergence=self.weight,
            peer_divergence=self.weight,
        )
        return StepOutput(loss=loss, terms=terms)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Both students."""
        return (self.student, self.peer)
