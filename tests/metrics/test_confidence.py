"""Intervals against scipy, and their coverage."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from facedistill.metrics.confidence import bootstrap_intervals, clopper_pearson, mean_interval
from facedistill.metrics.verification import auc


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 7), (2983, 3000), (3000, 3000)])
def test_clopper_pearson_agrees_with_scipy(k: int, n: int) -> None:
    wanted = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_clopper_pearson_covers_at_least_its_level() -> None:
    for rate in (0.03, 0.5, 0.97):
        covered = 0.0
        for k in range(41):
            low, high = clopper_pearson(k, 40)
            covered += math.comb(40, k) * rate**k * (1 - rate) ** (40 - k) * (low <= rate <= high)
        assert covered >= 0.95


def test_mean_interval_agrees_with_scipy() -> None:
    values = torch.tensor([0.98, 0.97, 0.99, 0.985, 0.96, 0.99, 1.0, 0.975, 0.98, 0.97])
    wanted = stats.t.interval(0.95, 9, values.double().mean(), stats.sem(values.double().numpy()))
    assert mean_interval(values) == pytest.approx(wanted, abs=1e-9)


def test_bootstrap_is_as_wide_as_the_known_error_of_a_mean() -> None:
    genuine = np.random.default_rng(0).normal(size=400)
    metrics = {"mean": lambda g, i: g.mean()}
    interval = bootstrap_intervals(metrics, genuine, np.zeros(1), resamples=4000)["mean"]
    half = 1.96 * genuine.std(ddof=1) / 20
    assert interval == pytest.approx((genuine.mean() - half, genuine.mean() + half), abs=0.01)


def test_bootstrap_depends_on_its_seed_only() -> None:
    scores = np.linspace(0, 1, 30), np.linspace(-0.5, 0.5, 40)
    first = bootstrap_intervals({"auc": auc}, *scores, resamples=50, seed=1)
    torch.rand(7)
    assert bootstrap_intervals({"auc": auc}, *scores, resamples=50, seed=1) == first
    assert bootstrap_intervals({"auc": auc}, *scores, resamples=50, seed=2) != first


def test_impossible_counts_raise() -> None:
    with pytest.raises(ValueError, match=r"^successes must be within 0 and trials >= 1, got 3 of 2$"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match=r"^a t-interval needs at least two values, got 1$"):
        mean_interval(torch.ones(1))
