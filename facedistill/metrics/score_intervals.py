"""95 % intervals of verification figures, with the uncertainty of the threshold; no resampling, no random numbers.

Pairs are taken as independent. Pairs that share people are not, so true intervals are wider; benchmarks whose
pair lists name no identities leave nothing else. `benchmarks/interval_coverage.py` measures the coverage.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betainc, expit, gammaincinv

from facedistill.metrics.confidence import Interval, jeffreys

LEVEL = 0.95
_TAILS = np.array([(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2])
_DRAWS = 200
_RANKS = 200
_HALVINGS = 30
_MAX_LOGIT = 20.0
_AT_ONCE = 2**20
_BEYOND = 1.5  # mean excesses between the most extreme score seen and the one that might have been seen


def likely_thresholds(impostor: np.ndarray, far: float, draws: int = _DRAWS) -> np.ndarray:
    """Equally likely values of the threshold whose true false accept rate is `far`.

    How many of Q impostor scores lie above that threshold is Binomial(Q, far): its quantiles are ranks of the sorted
    scores. Above the highest score the tail is taken as exponential, with the mean excess of the highest scores.

    Args:
        impostor: (Q,) scores in ascending order.
        far: A fraction in (0, 1).
        draws: Number of values.

    Returns:
        (draws,) thresholds, descending.

    >>> likely_thresholds(np.arange(1000.0), 0.1, draws=3).round(1)
    array([908.7, 899.6, 890.3])
    """
    q = len(impostor)
    level = (np.arange(draws) + 0.5) / draws
    none_above = (1 - far) ** q
    spread = 6 * math.sqrt(q * far * (1 - far)) + 6
    ranks = np.linspace(max(1.0, q * far - spread), min(float(q), q * far + spread), _RANKS)
    rank = np.interp(level, betainc(q - ranks + 1, ranks, 1 - far), ranks)
    whole = np.floor(rank).astype(np.int64)
    upper, lower = impostor[q - whole], impostor[np.maximum(q - whole - 1, 0)]
    threshold = upper + (rank - whole) * (lower - upper)
    beyond = level < none_above
    highest_rate = 1 - level[beyond] ** (1 / q)  # likely true rate of the highest score, above `far`
    threshold[beyond] = impostor[-1] + _mean_excess(impostor) * np.log(highest_rate / far)
    return threshold


def tar_interval(genuine: np.ndarray, impostor: np.ndarray, far: float) -> Interval:
    """Interval of the true accept rate at the threshold whose true false accept rate is `far`.

    A mixture of Jeffreys' beta distributions of the rate, one for each of `likely_thresholds`.

    Args:
        genuine: (P,) scores in ascending order.
        impostor: (Q,) scores in ascending order.
        far: A fraction in [1 / Q, 1).

    >>> low, high = tar_interval(np.arange(1000.0), np.arange(1000.0) - 500, 0.1)
    >>> round(low, 2), round(high, 2)
    (0.56, 0.64)
    """
    p = len(genuine)
    accepted, times = np.unique(
        p - np.searchsorted(genuine, likely_thresholds(impostor, far)), return_counts=True
    )
    low, high = np.zeros(2), np.ones(2)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = betainc(accepted + 0.5, p - accepted + 0.5, middle[:, None]) @ times / times.sum()
        low, high = np.where(below < _TAILS, middle, low), np.where(below < _TAILS, high, middle)
    return float(low[0]), float(high[1])


def eer_interval(genuine: np.ndarray, impostor: np.ndarray) -> Interval:
    """Interval of the equal error rate.

    The rate is above e exactly if the threshold of false accept rate e lies above that of false reject rate e; both
    are drawn by `likely_thresholds`. Where all scores separate, the upper end is the rate at which min(P, Q) pairs have
    no error with odds 2.5 %.

    Args:
        genuine: (P,) scores in ascending order.
        impostor: (Q,) scores in ascending order.

    >>> low, high = eer_interval(np.arange(1000.0), np.arange(1000.0) - 500)
    >>> round(low, 2), round(high, 2)
    (0.23, 0.27)
    """
    bound = float(_TAILS[0] ** (1 / min(len(genuine), len(impostor))))
    if genuine[0] > impostor[-1]:
        return 0.0, 1 - bound
    if genuine[-1] < impostor[0]:
        return bound, 1.0
    mirrored, draws = -genuine[::-1], _DRAWS // 2

    def above(rate: float) -> float:
        accepts, rejects = likely_thresholds(impostor, rate, draws), -likely_thresholds(mirrored, rate, draws)
        below = (np.searchsorted(rejects, accepts, side) for side in ("left", "right"))
        return float(sum(counts.mean() for counts in below)) / (2 * draws)

    ends = []
    for tail in _TAILS[::-1]:
        low, high = -_MAX_LOGIT, _MAX_LOGIT
        for _ in range(_HALVINGS // 2):
            middle = (low + high) / 2
            low, high = (middle, high) if above(float(expit(middle))) > tail else (low, middle)
        ends.append(float(expit((low + high) / 2)))
    return ends[0], ends[1]


def auc_interval(genuine: np.ndarray, impostor: np.ndarray) -> Interval:
    """Interval of the area under the ROC, from DeLong's variance of 1 - AUC and a gamma distribution.

    The gamma distribution is that of rates of rare events with weights (Fay & Feuer 1997; mid-p, Fay & Kim 2017).
    The largest weight is that of a genuine and an impostor score 1.5 mean excesses beyond the most extreme ones. Where
    all scores separate, the lower end is the AUC at which min(P, Q) disjoint pairs are all in order with odds 2.5 %.

    Args:
        genuine: (P,) scores in ascending order, P >= 2.
        impostor: (Q,) scores in ascending order, Q >= 2.

    >>> low, high = auc_interval(np.arange(1000.0), np.arange(1000.0) - 500)
    >>> round(low, 2), round(high, 2)
    (0.86, 0.89)
    """
    p, q = len(genuine), len(impostor)
    if min(p, q) < 2:
        return 0.0, 1.0
    rank_in_impostor = _middle_rank(impostor, genuine)
    missed = (q - rank_in_impostor) / q  # share of impostors above each genuine score
    mean = float(missed.mean())
    if mean > 0.5:
        low, high = auc_interval(impostor, genuine)
        return 1 - high, 1 - low
    if mean == 0:
        return float(_TAILS[0] ** (1 / min(p, q))), 1.0
    variance = float(missed.var(ddof=1)) / p + _rank_variance(genuine, impostor) / p**2 / q
    if variance == 0:  # all scores are equal
        return 0.0, 1.0
    far = 1 - np.searchsorted(impostor, genuine[0] - _BEYOND * _mean_excess(-genuine[::-1])) / q
    missed_share = np.searchsorted(genuine, impostor[-1] + _BEYOND * _mean_excess(impostor)) / p
    weight = max(math.hypot(far / p, missed_share / q) / 2, 1 / (p * q))
    low = _gamma_quantile(mean, variance, 0, _TAILS[0])
    high = _gamma_quantile(mean, variance, weight, _TAILS[1])
    return max(1 - high, 0.0), 1 - low


def accuracy_interval(held_out: float, fitted: float, trials: int) -> Interval:
    """Interval of the best accuracy that one threshold reaches, from two counts of correct decisions.

    Decisions at thresholds fitted on other folds are a little pessimistic, those at the threshold fitted on the same
    pairs optimistic. The lower end is Jeffreys' for the first count, the upper end for the mean of both.

    Args:
        held_out: Correct decisions at the thresholds of the other folds.
        fitted: Correct decisions at the best threshold of all pairs.
        trials: Number of pairs.

    >>> low, high = accuracy_interval(5500, 5506, 6000)
    >>> round(low, 3), round(high, 3)
    (0.909, 0.924)
    """
    return jeffreys(held_out, trials)[0], jeffreys((held_out + max(fitted, held_out)) / 2, trials)[1]


def _mean_excess(ascending: np.ndarray) -> float:
    """Mean of the highest scores (50, or a tenth where there are fewer) above the next one."""
    number = min(50, max(len(ascending) // 10, 1), len(ascending) - 1)
    return float(ascending[-number:].mean() - ascending[-number - 1]) if number else 0.0


def _middle_rank(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of `ascending` are below each value; ties count half."""
    return (np.searchsorted(ascending, values, "left") + np.searchsorted(ascending, values, "right")) / 2


def _rank_variance(ascending: np.ndarray, values: np.ndarray) -> float:
    """Sample variance of the middle ranks, in parts that bound the memory."""
    center, total, squares = len(ascending) / 2, 0.0, 0.0
    for start in range(0, len(values), _AT_ONCE):
        ranks = _middle_rank(ascending, values[start : start + _AT_ONCE]) - center
        total, squares = total + float(ranks.sum()), squares + float(ranks @ ranks)
    return (squares - total**2 / len(values)) / (len(values) - 1)


def _gamma_quantile(mean: float, variance: float, weight: float, level: float) -> float:
    mean, variance = mean + weight, variance + weight**2
    return variance / mean * float(gammaincinv(mean**2 / variance, level))
