"""Intervals that fit thresholds again: their coverage, their limits, and their cost."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from facedistill.metrics.score_intervals import (
    accuracy_interval,
    auc_interval,
    eer_interval,
    likely_thresholds,
    tar_interval,
)
from facedistill.metrics.verification import auc, eer, verification_summary

GENUINE, IMPOSTOR = norm(0.35, 0.15), norm(0, 0.08)


def draw(
    rng: np.random.Generator, genuine: int = 3000, impostor: int = 3000
) -> tuple[np.ndarray, np.ndarray]:
    return np.sort(rng.normal(0.35, 0.15, genuine)), np.sort(rng.normal(0, 0.08, impostor))


def test_all_intervals_cover_the_figures_of_the_population() -> None:
    """In at least 36 of 40 draws of 3,000 and 3,000 pairs; at a known threshold TAR's would in about 11."""
    rng = np.random.default_rng(0)
    far = 1e-3
    truth = {
        "tar": GENUINE.sf(IMPOSTOR.isf(far)),
        "auc": norm.cdf(0.35 / np.hypot(0.15, 0.08)),
        "eer": norm.sf(0.35 / (0.15 + 0.08)),
    }
    covered = dict.fromkeys(truth, 0)
    for _ in range(40):
        pair = draw(rng)
        found = {"tar": tar_interval(*pair, far), "auc": auc_interval(*pair), "eer": eer_interval(*pair)}
        for name, (low, high) in found.items():
            covered[name] += low <= truth[name] <= high
    assert all(number >= 36 for number in covered.values()), covered


def test_the_interval_of_a_low_far_is_wider_than_that_at_a_known_threshold() -> None:
    genuine, impostor = draw(np.random.default_rng(1))
    low, high = tar_interval(genuine, impostor, 1e-3)
    rate = GENUINE.sf(IMPOSTOR.isf(1e-3))
    known = 2 * 1.96 * np.sqrt(rate * (1 - rate) / 3000)
    assert 3 * known < high - low < 8 * known  # three false accepts decide where the threshold lies


def test_likely_thresholds_follow_the_binomial_distribution_of_the_rank() -> None:
    impostor = np.arange(1000.0)
    drawn = likely_thresholds(impostor, 0.01)
    for above in (4, 9, 15):
        share = (drawn > impostor[-1 - above]).mean()  # at most `above` scores lie above the threshold
        assert share == pytest.approx(binom.cdf(above, 1000, 0.01), abs=0.005)
    assert (likely_thresholds(impostor, 1e-3) > impostor[-1]).mean() == pytest.approx(0.999**1000, abs=0.005)


@pytest.mark.parametrize("shift", [0.0, 10.0, -10.0])
def test_equal_separate_and_reversed_scores(shift: float) -> None:
    scores = np.sort(np.random.default_rng(2).normal(size=200))
    pair = scores + shift, scores
    for metric, (low, high) in ((auc, auc_interval(*pair)), (eer, eer_interval(*pair))):
        assert 0 <= low <= metric(*pair) + 1e-6
        assert metric(*pair) - 1e-6 <= high <= 1
        assert 1e-7 < high - low < 0.2
    assert auc_interval(*pair)[1] == pytest.approx(1 - auc_interval(*pair[::-1])[0], abs=0.01)


def test_constant_scores_and_few_scores_have_intervals() -> None:
    for size in (1, 2, 5):
        summary = verification_summary(np.zeros(2 * size), np.arange(2 * size) < size, None, fars={"1": 1.0})
        for low, high in (summary["auc_ci"], summary["eer_ci"], summary["tar"]["1"]["ci"]):
            assert 0 <= low < high <= 1


def test_accuracy_interval_is_that_of_the_counts() -> None:
    low, high = accuracy_interval(5700, 5706, 6000)
    assert (low, high) == pytest.approx((0.9443, 0.9557), abs=2e-4)
    assert accuracy_interval(6000, 6000, 6000)[1] == 1
