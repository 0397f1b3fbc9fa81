"""GKD where the identities are split across processes: the group and its terms from partial statistics."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.losses.grouping import Alone, Grouping
from facedistill.losses.groups import GroupTerms, grouped_terms, weighted_terms


class Shards(Alone):
    """Each process has the columns [first, first + its own width) of all rows of the global batch.

    Args:
        first: First identity of this process.
        num_identities: K over all processes.
        process_group: The processes among which the identities are split; None for all.
    """

    def __init__(
        self, first: int, num_identities: int, process_group: dist.ProcessGroup | None = None
    ) -> None:
        self.first = first
        self.num_identities = num_identities
        self.process_group = process_group

    def total(self, values: Tensor) -> Tensor:
        """Sum over the shards."""
        values = values.clone()
        dist.all_reduce(values, group=self.process_group)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Maximum over the shards."""
        values = values.clone()
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.process_group)
        return values

    def batch_probabilities(self, probabilities: Tensor, num_images: int) -> tuple[Tensor, Tensor]:
        """Mass per identity, (K,), and number of images, (1,): the rows are the global batch already."""
        whole = probabilities.new_zeros(self.num_identities)
        whole[self.first : self.first + len(probabilities)] = probabilities
        return self.total(whole), torch.full_like(whole[:1], num_images)


def sharded_gkd_terms(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    grouping: Grouping,
    shards: Shards,
    temperature: float = 4.0,
    sample_rate: float = 1.0,
) -> GroupTerms:
    """The three divergences of GKD of the whole (N, K) logits, of which each process has some columns.

    The group is found by counting (one small all-reduce per bit of a threshold), the log-sum-exps are merged by
    maximum and sum. No process ever has more than its own columns. Every process returns the same numbers, and
    each gets the exact gradient of them with respect to its own columns; what a loss of gathered embeddings
    needs on top (a sum over processes for the embeddings) is the sharded head's business.

    Args:
        student: (N, K_local) this process's logits of the global batch, the same rows in every process.
        teacher: (N, K_local) the same columns of the teacher.
        labels: (N,) identity index in [0, K), in all processes.
        grouping: How the primary group is chosen.
        shards: Which columns these are.
        temperature: Softmax divisor.
        sample_rate: Fraction of the centers that the head samples per step (Partial FC).

    Raises:
        ConfigError: If centers are sampled: the group's mass is then not defined.
    """
    if sample_rate < 1:
        raise ConfigError(
            f"head.sample_rate: GKD needs the logits of all identities, got {sample_rate}; set head.sample_rate=1"
        )
    return grouped_terms(student, teacher, labels, grouping, temperature, shards)


def sharded_gkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    grouping: Grouping,
    shards: Shards,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    lambda_: float = 0.0,
    temperature: float = 4.0,
    sample_rate: float = 1.0,
) -> Tensor:
    """(N,) `facedistill.losses.groups.gkd` of the whole logits; see `sharded_gkd_terms`."""
    terms = sharded_gkd_terms(student, teacher, labels, grouping, shards, temperature, sample_rate)
    return weighted_terms(terms, alpha, beta, lambda_, temperature)
