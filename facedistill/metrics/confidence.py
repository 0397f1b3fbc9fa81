"""Confidence intervals of rates and of verification figures, from first principles and in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Interval = tuple[float, float]

_BISECTIONS = 80
_MAX_FRACTIONS = 10_000
_TINY = 1e-300
_BINS = 4096


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact two-sided interval of a rate, from the binomial law.

    Covers at least `level` for every true rate, and says something at 0 and at `trials` successes, where a
    bootstrap has width zero.

    Args:
        successes: k in [0, n].
        trials: n >= 1.
        level: Coverage, a fraction in (0, 1).

    Raises:
        ValueError: If there is no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must be within 0 and trials >= 1, got {successes} of {trials}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, trials - successes + 1)
    high = 1.0 if successes == trials else _beta_quantile(1 - tail, successes + 1, trials - successes)
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
    """
    n = values.numel()
    if n < 2:
        raise ValueError(f"a t-interval needs at least two values, got {n}")
    values = values.double()
    mean, std = values.mean().item(), values.std(correction=1).item()
    half = t_quantile(1 - (1 - level) / 2, n - 1) * std / math.sqrt(n)
    return mean - half, mean + half


def bootstrap_interval(
    statistic: Callable[[Tensor, Tensor], Tensor],
    genuine: Tensor,
    impostor: Tensor,
    *,
    resamples: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap over pairs, genuine and impostor resampled apart so that their numbers stay.

    Pairs that share a person are treated as independent, as is customary; the true interval is wider.

    Args:
        statistic: Takes (P,) genuine and (Q,) impostor scores, returns ().
        genuine: (P,) scores.
        impostor: (Q,) scores.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval, on every machine.
        level: Coverage, a fraction in (0, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    genuine, impostor = genuine.cpu(), impostor.cpu()
    drawn = torch.empty(resamples, dtype=torch.float64)
    for b in range(resamples):
        g = genuine[torch.randint(len(genuine), (len(genuine),), generator=generator)]
        i = impostor[torch.randint(len(impostor), (len(impostor),), generator=generator)]
        drawn[b] = statistic(g, i)
    tails = torch.tensor([(1 - level) / 2, 1 - (1 - level) / 2], dtype=torch.float64)
    low, high = torch.quantile(drawn, tails).tolist()
    return low, high


def binned_bootstrap_intervals(
    genuine: Tensor, impostor: Tensor, *, resamples: int = 500, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """`bootstrap_interval` of AUC and EER for millions of pairs, from multinomial counts of score bins.

    Half of the 4,096 bins hold equally many genuine, half equally many impostor scores, so that a figure is
    known to within 1 / 2,048; a resample costs two multinomial draws instead of a sort.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.
        level: Coverage, a fraction in (0, 1).

    Returns:
        The intervals under "auc" and "eer".
    """
    rng = np.random.default_rng(seed)
    kinds = [values.double().cpu().numpy() for values in (genuine, impostor)]
    # Half of the edges follow each kind: a million impostors must not leave all genuine pairs in a few bins.
    shares = np.linspace(0, 1, _BINS // 2 + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(values, shares) for values in kinds]))
    counts = [np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) for v in kinds]
    drawn = [rng.multinomial(c.sum(), c / c.sum(), size=resamples) / c.sum() for c in counts]
    tar_step, far_step = (d[:, ::-1] for d in drawn)  # from the strictest bin on
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
    """Percentile bootstrap over people: all searches of a person are drawn together, or not at all.

    Args:
        statistic: Takes (N,) how often each search was drawn, returns the figure; NaN where it has none.
        subjects: (N,) whose search each is, any integers.
        resamples: Number of bootstrap samples.
        seed: The same seed gives the same interval.
        level: Coverage, a fraction in (0, 1).
    """
    rng = np.random.default_rng(seed)
    people, person = np.unique(subjects, return_inverse=True)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        drawn.append(statistic(times[person]))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, 1 - (1 - level) / 2]).tolist()
    return low, high


def t_quantile(p: float, freedom: int) -> float:
    """Quantile at `p` in [0.5, 1) of Student's t with `freedom` degrees of freedom."""
    # P(T > t) = 1/2 · I_x(v/2, 1/2) with x = v / (v + t²)
    x = _beta_quantile(2 * (1 - p), freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x)


def _beta_quantile(p: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if regularized_beta(middle, a, b) < p else (low, middle)
    return (low + high) / 2


def regularized_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), the regularized incomplete beta function, by its continued fraction.

    I_x(a, b) = x^a (1 - x)^b / (a B(a, b)) · 1 / (1 + d1 / (1 + d2 / (1 + …)))
    d_2m   =  m (b - m) x / ((a + 2m - 1)(a + 2m))
    d_2m+1 = -(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1))

    Evaluated from the front (Lentz), on the side of the mean where O(sqrt(max(a, b))) terms suffice.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - regularized_beta(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.lgamma(a) - math.lgamma(b) + math.lgamma(a + b)
    # Front-to-back: C and D are the ratios of successive numerators and denominators.
    fraction, c, d = 1.0, 1.0, 0.0
    for term in range(_MAX_FRACTIONS):
        m = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _away_from_zero(1 + numerator * d)
        c = _away_from_zero(1 + numerator / c)
        fraction *= c * d
        if term > 0 and abs(1 - c * d) < 1e-15:
            break
    # The fraction began at 1 and took 1 / (1 + d1 / …) as its first numerator: K = fraction - 1.
    return math.exp(log_front) / a * (fraction - 1)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
