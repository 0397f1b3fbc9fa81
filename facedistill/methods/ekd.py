"""EKD, evaluation-oriented knowledge distillation (Huang, Wu, Xu, Ding; CVPR 2022; arXiv:2206.02325)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from facedistill.distributed.collectives import gather, gather_constant, rank, world_size
from facedistill.errors import ConfigError
from facedistill.losses.rank_thresholds import RankThresholds
from facedistill.losses.ranks import rank_losses, score_pairs
from facedistill.methods.agreement import agreement
from facedistill.methods.identity import IdentityMethod
from facedistill.system.messages import print_message
from facedistill.types import FaceBatch, Requirements, StepOutput

REPORT_EVERY = 100  # steps between two looks from the host, on an accelerator


class EKD(IdentityMethod):
    """A pair is to fall between the same two thresholds in the student as in the teacher.

    L = identity_weight · L_margin + genuine_weight · L_genuine + impostor_weight · L_impostor, with
    L_genuine = mean over all genuine pairs of (R_S - R_T)², L_impostor the same over the `num_impostors` impostor
    pairs that the student finds hardest, R(p) = sum over k of sigma((score_p - t_k) / temperature), and t_k the
    network's own thresholds at `fars` (`facedistill.losses.rank_thresholds`). Pairs are those of the gathered
    batch, its balanced half included; the margin softmax sees the general half only.

    Differences from the released code: the thresholds are in the checkpoint; no genuine pair is no NaN; and with
    `scaling: exact` the gradient does not depend on the number of processes (released: it is multiplied by it).

    Args:
        genuine_weight: Weight of L_genuine.
        impostor_weight: Weight of L_impostor.
        fars: False accept rates, fractions, each above 0 and below 1.
        temperature: Width of a rank's edge, in cosine, > 0.
        num_impostors: How many of the hardest impostor pairs count.
        momentum: Of the thresholds, in [0, 1).
        warm_start: Whether the first batch sets the thresholds; released: they start from 0.
        scaling: "exact", or "released", which multiplies the gradient (not the value) of both terms by the number
            of processes.
        released_processes: The number that `scaling: released` multiplies by; null for the run's own. A run in one
            process mimics 8 with 8.
        impostor_queue: Embeddings of earlier batches that widen the pairs from which thresholds are estimated;
            0 for none, as published.
        **kwargs: Those of `IdentityMethod`.

    Raises:
        ConfigError: If a rate is not between 0 and 1.
    """

    paper = "Huang et al., CVPR 2022"
    requirements = Requirements(labels=True, reports_agreement=True)

    def __init__(
        self,
        *,
        genuine_weight: float = 0.02,
        impostor_weight: float = 0.01,
        fars: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        temperature: float = 0.01,
        num_impostors: int = 2000,
        momentum: float = 0.99,
        warm_start: bool = False,
        scaling: Literal["exact", "released"] = "exact",
        released_processes: int | None = None,
        impostor_queue: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not fars or not all(0 < far < 1 for far in fars):
            raise ConfigError(f"method.fars: {list(fars)} are not rates; give fractions between 0 and 1")
        self.genuine_weight = genuine_weight
        self.impostor_weight = impostor_weight
        self.temperature = temperature
        self.num_impostors = num_impostors
        self.scaling = scaling
        self.released_processes = released_processes
        self.thresholds = RankThresholds(
            fars,
            momentum=momentum,
            warm_start=warm_start,
            queue_size=impostor_queue,
            student_dim=self.student.embedding_dim if impostor_queue else 0,  # type: ignore[arg-type]
            teacher_dim=self.teacher.embedding_dim if impostor_queue else 0,  # type: ignore[union-attr,arg-type]
        )
        self._steps = 0
        self._said: set[str] = set()
        self._fewest_genuine: Tensor | None = None

    def distill(self, batch: FaceBatch) -> StepOutput:
        """Computes the objective; terms are `identity`, `genuine` and `impostor`, unweighted."""
        assert batch.labels is not None
        student, teacher = self.student(batch.images), self.teach(batch)
        terms = self.identity_loss(student, batch)
        pairs = score_pairs(gather(student), gather_constant(teacher), gather_constant(batch.labels))
        if self.training:
            hardest, num_impostors = self.thresholds.update(pairs, self.num_impostors)
            self._report(pairs.genuine.sum(), num_impostors, len(pairs.labels))
        else:
            ours = pairs.impostor_scores(pairs.student)
            hardest = ours.topk(min(self.num_impostors, len(ours))).indices
        genuine, impostor = rank_losses(
            pairs, hardest, self.thresholds.student, self.thresholds.teacher, temperature=self.temperature
        )
        terms |= {"genuine": self._scaled(genuine), "impostor": self._scaled(impostor)}
        loss = self.total(terms, genuine=self.genuine_weight, impostor=self.impostor_weight)
        return StepOutput(loss=loss, terms=terms, agreement=agreement(student, teacher))

    def _scaled(self, term: Tensor) -> Tensor:
        if self.scaling == "exact":
            return term
        return term.detach() + (self.released_processes or world_size()) * (term - term.detach())

    def _report(self, num_genuine: Tensor, num_impostors: Tensor, num_images: int) -> None:
        """Says once, in the first process, what the batches cannot give."""
        self._steps += 1
        if rank() or self._said >= {"genuine", "impostor"}:
            return
        fewest = (
            num_genuine if self._fewest_genuine is None else torch.minimum(num_genuine, self._fewest_genuine)
        )
        self._fewest_genuine = fewest
        if fewest.device.type != "cpu" and self._steps % REPORT_EVERY != 1:
            return
        if not int(fewest):
            self._say(
                "genuine",
                "EKD got a batch without a genuine pair; its genuine term is left out; draw several images per"
                " identity, or set method.genuine_weight=0.",
            )
        if (self._steps - 1) * num_images >= self.thresholds.queue_size:  # a queue is full
            rates = ", ".join(f"{far:g}" for far in self.thresholds.unresolved(int(num_impostors)))
            if rates:
                self._say(
                    "impostor",
                    f"EKD cannot resolve FAR {rates} with {int(num_impostors)} impostor pairs: their thresholds"
                    " follow the highest impostor score; raise the batch size or method.impostor_queue.",
                )
            self._said.add("impostor")

    def _say(self, subject: str, sentence: str) -> None:
        if subject not in self._said:
            self._said.add(subject)
            print_message(sentence)
