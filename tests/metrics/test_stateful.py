"""The container gives what the function gives, however the pairs arrive."""

import torch
from torch import Tensor

from facedistill.metrics.stateful import VerificationMetric
from facedistill.metrics.verification import verification_summary

PAIRS = 203


def scores() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    same = torch.rand(PAIRS, generator=generator) < 0.5
    score = torch.randn(PAIRS, generator=generator) * 0.3 + same * 0.5
    return score, same, torch.arange(PAIRS) % 10, torch.arange(PAIRS)


def test_batches_equal_the_whole() -> None:
    states = scores()
    metric = VerificationMetric(resamples=20)
    for rows in torch.arange(PAIRS).split(17):
        metric.update(*(state[rows] for state in states))
    assert metric.compute() == verification_summary(*states[:3], resamples=20)


def test_duplicates_of_a_padded_sampler_count_once() -> None:
    states = scores()
    metric = VerificationMetric(resamples=20)
    # two ranks of 102 each: 203 pairs are padded with a second copy of the first
    for rank in range(2):
        rows = torch.cat([torch.arange(PAIRS), torch.tensor([0])])[rank::2]
        metric.update(*(state[rows] for state in states))
    summary = metric.compute()
    assert summary["pairs"] == PAIRS
    assert summary == verification_summary(*states[:3], resamples=20)


def test_scores_outside_the_unit_interval_are_taken_as_they_are() -> None:
    # torchmetrics' own binary metrics would pass this batch through a sigmoid, and that one not
    score = torch.tensor([-0.4, -0.2, 0.6, 0.9, 0.1, 0.2, 0.3, 0.4])
    same = torch.tensor([False, False, True, True, False, False, True, True])
    metric = VerificationMetric(resamples=20)
    for rows in torch.arange(8).split(4):
        metric.update(score[rows], same[rows], rows % 2, rows)
    assert metric.compute()["auc"] == 1


def test_reset_forgets() -> None:
    states = scores()
    metric = VerificationMetric(resamples=20)
    metric.update(*(state.flip(0) * 0 + state for state in states))
    metric.reset()
    metric.update(*(state[:100] for state in states))
    assert metric.compute()["pairs"] == 100
