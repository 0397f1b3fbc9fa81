"""Confidence intervals of rates and of verification figures, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.special import betaincinv, stdtrit
from torch import Tensor

Interval = tuple[float, float]

_TINY = 1e-300
_BINS = 4096


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact two-sided interval of a rate, from the binomial distribution.

    It covers at least `level` for every true rate. Unlike a bootstrap, it has a width at 0 and at `trials`
    successes.

    Args:
        successes: k in [0, n].
        trials: n >= 1.
        level: Coverage, a fraction in (0, 1).

    Raises:
        ValueError: If there is no trial, or more successes than trials.

    >>> low, high = clopper_pearson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.555, 0.997)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must be within 0 and trials >= 1, got {successes} of {trials}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def mean_interval(values: Tensor, level: float = 0.95) -> Interval:
    """Student's t-interval of a mean over few values: mean ± t(n - 1) · std / sqrt(n).

    Over the folds of a benchmark it is a little too narrow, because any two folds share most of the pairs
    that their thresholds were fitted on.

    Args:
        values: (n,) independent values, n >= 2.
        level: Coverage, a fraction in (0, 1).

    Raises:
        ValueError: If there are fewer than two values.

    >>> low, high = mean_interval(torch.tensor([0.98, 0.97, 0.99]))
    >>> round(low, 3), round(high, 3)
    (0.955, 1.005)
    """
    n = values.numel()
    if n < 2:
        raise ValueError(f"a t-interval needs at least two values, got {n}")
    values = values.double()
    mean, std = values.mean().item(), values.std(correction=1).item()
    half = float(stdtrit(n - 1, 1 - (1 - level) / 2)) * std / math.sqrt(n)
    return mean - half, mean + half


def bootstrap_intervals(
    metrics: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
    genuine: np.ndarray,
    impostor: np.ndarray,
    *,
    resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile bootstrap over pairs; genuine and impostor pairs are resampled separately, so their counts stay.

    Pairs that share a person are treated as independent, as is customary; the true interval is wider.

    Args:
        metrics: Functions of (P,) genuine and (Q,) impostor scores, by name; all see the same resamples.
        genuine: (P,) scores.
        impostor: (Q,) scores.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same intervals, on every machine.
        level: Coverage, a fraction in (0, 1).

    Returns:
        The intervals by name.

    >>> genuine, impostor = np.linspace(0.4, 0.6, 50), np.zeros(50)
    >>> metrics = {"gap": lambda g, i: g.mean() - i.mean()}
    >>> low, high = bootstrap_intervals(metrics, genuine, impostor, resamples=100)["gap"]
    >>> 0.45 < low < 0.5 < high < 0.55
    True
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.empty(resamples, dtype=torch.float64) for name in metrics}
    for b in range(resamples):
        g, i = (
            scores[torch.randint(len(scores), (len(scores),), generator=generator).numpy()]
            for scores in (genuine, impostor)
        )
        for name, metric in metrics.items():
            drawn[name][b] = metric(g, i)
    tails = torch.tensor([(1 - level) / 2, 1 - (1 - level) / 2], dtype=torch.float64)
    intervals = {name: torch.quantile(values, tails).tolist() for name, values in drawn.items()}
    return {name: (low, high) for name, (low, high) in intervals.items()}


def binned_bootstrap_intervals(
    genuine: np.ndarray, impostor: np.ndarray, *, resamples: int = 500, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """`bootstrap_intervals` of AUC and EER for millions of pairs, from multinomial counts of score bins.

    Half of the 4,096 bins hold equally many genuine scores, half equally many impostor scores, so the error of
    a metric is at most 1 / 2,048. A resample costs two multinomial draws instead of a sort.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.
        level: Coverage, a fraction in (0, 1).

    Returns:
        The intervals under "auc" and "eer".

    >>> scores = np.linspace(0, 1, 1000)
    >>> intervals = binned_bootstrap_intervals(scores, scores - 0.5, resamples=100)
    >>> low, high = intervals["auc"]
    >>> low < 0.875 < high
    True
    """
    rng = np.random.default_rng(seed)
    kinds = [scores.astype(np.float64, copy=False) for scores in (genuine, impostor)]
    # Half of the edges follow each kind: otherwise a million impostors leave all genuine pairs in a few bins.
    shares = np.linspace(0, 1, _BINS // 2 + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(values, shares) for values in kinds]))
    counts = [np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) for v in kinds]
    drawn = [rng.multinomial(c.sum(), c / c.sum(), size=resamples) / c.sum() for c in counts]
    tar_step, far_step = (d[:, ::-1] for d in drawn)  # from the highest scores down
    tar, far = np.cumsum(tar_step, axis=1), np.cumsum(far_step, axis=1)
    auc = 1 - (tar_step * (far - far_step / 2)).sum(axis=1)
    gap = far - (1 - tar)
    crossing = (gap >= 0).argmax(axis=1)[:, None]
    gap, far, far_step, tar_step = (
        np.take_along_axis(x, crossing, 1)[:, 0] for x in (gap, far, far_step, tar_step)
    )
    eer = far - far_step * gap / np.maximum(far_step + tar_step, _TINY)
    tails = [(1 - level) / 2, 1 - (1 - level) / 2]
    intervals = {name: np.quantile(values, tails).tolist() for name, values in (("auc", auc), ("eer", eer))}
    return {name: (low, high) for name, (low, high) in intervals.items()}


def subject_bootstrap(
    statistic: Callable[[np.ndarray], float],
    subjects: np.ndarray,
    *,
    resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap over identities: all searches of an identity are drawn together.

    Args:
        statistic: Takes (N,) counts of how often each search was drawn and returns the figure; NaN where undefined.
        subjects: (N,) identity of each search, any integers.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.
        level: Coverage, a fraction in (0, 1).

    >>> found = np.array([1.0, 1.0, 0.0, 0.0])
    >>> subject_bootstrap(lambda times: (found * times).sum() / times.sum(), np.array([0, 0, 1, 1]), resamples=100)
    (0.0, 1.0)
    """
    rng = np.random.default_rng(seed)
    identities, index = np.unique(subjects, return_inverse=True)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(identities), size=len(identities)), minlength=len(identities))
        drawn.append(statistic(times[index]))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, 1 - (1 - level) / 2]).tolist()
    return low, high
