"""Confidence intervals of rates, of means and of figures over people, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv, stdtrit
from torch import Tensor

Interval = tuple[float, float]

_LEVEL = 0.95  # of every interval: the share of true values that it covers
_TAIL = (1 - _LEVEL) / 2


def jeffreys(successes: float, trials: float) -> Interval:
    """Jeffreys' two-sided interval of a rate: quantiles of Beta(k + 1/2, n - k + 1/2).

    It covers 95 % on average over true rates (Brown, Cai & DasGupta 2001). The lower end is 0 without a success,
    the upper end 1 without a failure.

    Args:
        successes: k in [0, n].
        trials: n > 0.

    Raises:
        ValueError: If there is no trial, or more successes than trials.

    >>> low, high = jeffreys(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.619, 0.989)
    """
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"successes must be within 0 and trials > 0, got {successes} of {trials}")
    shape = (successes + 0.5, trials - successes + 0.5)
    low = 0.0 if successes == 0 else float(betaincinv(*shape, _TAIL))
    high = 1.0 if successes == trials else float(betaincinv(*shape, 1 - _TAIL))
    return low, high


def mean_interval(values: Tensor) -> Interval:
    """Student's t-interval of a mean over few values: mean ± t(n - 1) · std / sqrt(n).

    Over the folds of a benchmark it is a little too narrow, because any two folds share most of the pairs
    that their thresholds were fitted on.

    Args:
        values: (n,) independent values, n >= 2.

    Raises:
        ValueError: If there are fewer than two values.

    >>> low, high = mean_interval(Tensor([0.98, 0.97, 0.99]))
    >>> round(low, 3), round(high, 3)
    (0.955, 1.005)
    """
    n = values.numel()
    if n < 2:
        raise ValueError(f"a t-interval needs at least two values, got {n}")
    values = values.double()
    mean, std = values.mean().item(), values.std(correction=1).item()
    half = float(stdtrit(n - 1, 1 - _TAIL)) * std / math.sqrt(n)
    return mean - half, mean + half


def rate_interval(hit: np.ndarray, subjects: np.ndarray) -> Interval:
    """Jeffreys' interval of a rate whose trials belong to people, for the number of independent trials they amount to.

    That number is p (1 - p) / variance, with the variance over identities; at a rate of 0 or 1 it is the number of
    identities.

    Args:
        hit: (N,) 0 or 1.
        subjects: (N,) identity of each trial, any integers.

    >>> low, high = rate_interval(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1]))
    >>> (low, high) == jeffreys(1, 2)
    True
    """
    identities, index = np.unique(subjects, return_inverse=True)
    rate, number = float(hit.mean()), len(identities)
    variance = float((np.bincount(index, hit - rate) ** 2).sum()) / len(hit) ** 2
    trials = min(rate * (1 - rate) / variance if variance else number, len(hit))
    return jeffreys(rate * trials, trials)


def subject_bootstrap(
    statistic: Callable[[np.ndarray], float], subjects: np.ndarray, *, resamples: int = 500
) -> Interval:
    """Percentile bootstrap over identities: all searches of an identity are drawn together, the same at every call.

    Args:
        statistic: Takes (N,) counts of how often each search was drawn and returns the figure; NaN where undefined.
        subjects: (N,) identity of each search, any integers.
        resamples: Number of bootstrap samples.

    >>> found = np.array([1.0, 1.0, 0.0, 0.0])
    >>> subject_bootstrap(lambda times: (found * times).sum() / times.sum(), np.array([0, 0, 1, 1]), resamples=100)
    (0.0, 1.0)
    """
    rng = np.random.default_rng(0)
    identities, index = np.unique(subjects, return_inverse=True)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(identities), size=len(identities)), minlength=len(identities))
        drawn.append(statistic(times[index]))
    low, high = np.nanquantile(drawn, [_TAIL, 1 - _TAIL]).tolist()
    return low, high
