"""Intervals of rates and means against scipy."""

import numpy as np
import pytest
import torch
from scipy import stats

from facedistill.metrics.confidence import jeffreys, mean_interval, rate_interval


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 7), (2983, 3000), (3000, 3000)])
def test_jeffreys_agrees_with_the_beta_distribution(k: int, n: int) -> None:
    low, high = stats.beta(k + 0.5, n - k + 0.5).ppf([0.025, 0.975])
    assert jeffreys(k, n) == pytest.approx((low if k else 0, high if k < n else 1), abs=1e-9)


def test_mean_interval_agrees_with_scipy() -> None:
    values = torch.tensor([0.98, 0.97, 0.99, 0.985, 0.96, 0.99, 1.0, 0.975, 0.98, 0.97])
    wanted = stats.t.interval(0.95, 9, values.double().mean(), stats.sem(values.double().numpy()))
    assert mean_interval(values) == pytest.approx(wanted, abs=1e-9)


def test_equal_trials_of_one_person_count_once() -> None:
    hit, people = np.arange(40) % 4 > 0, np.arange(40)
    alone = rate_interval(hit, people)
    assert alone == pytest.approx(jeffreys(30, 40))
    assert rate_interval(np.repeat(hit, 5), np.repeat(people, 5)) == pytest.approx(alone)
    assert rate_interval(np.ones(50), np.arange(50) // 5) == jeffreys(10, 10)


def test_impossible_counts_raise() -> None:
    with pytest.raises(ValueError, match=r"^successes must be within 0 and trials > 0, got 3 of 2$"):
        jeffreys(3, 2)
    with pytest.raises(ValueError, match=r"^a t-interval needs at least two values, got 1$"):
        mean_interval(torch.ones(1))
