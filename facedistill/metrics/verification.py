"""Verification metrics from the scores of genuine and impostor pairs.

A pair is accepted when its score is >= the threshold. Every metric is exact: the candidate thresholds lie between
neighboring distinct scores, never on a grid. Scores of any precision are compared in float64. Rates are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import (
    binned_bootstrap_intervals,
    bootstrap_intervals,
    clopper_pearson,
    mean_interval,
)
from facedistill.metrics.operating import (
    NOT_MEASURABLE,
    ROUNDING,
    Convention,
    Values,
    between,
    checked_scores,
    operating_point,
    sorted_scores,
)

FARS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
_MANY_PAIRS = 200_000  # from this many on, the bootstrap resamples counts of bins


class Roc(NamedTuple):
    """The receiver operating characteristic, from the highest threshold (accepts none) to the lowest (all).

    Attributes:
        threshold: (T,) float64, strictly descending.
        far: (T,) float64 false accept rate, ascending from 0 to 1.
        tar: (T,) float64 true accept rate, ascending from 0 to 1.
    """

    threshold: np.ndarray
    far: np.ndarray
    tar: np.ndarray


def roc(genuine: Values, impostor: Values) -> Roc:
    """Every operating point that these pairs can show.

    Args:
        genuine: (P,) scores of same-identity pairs; higher is more similar.
        impostor: (Q,) scores of different-identity pairs.

    >>> curve = roc(torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.2]))
    >>> curve.far.tolist(), curve.tar.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    distinct = np.unique(np.concatenate([genuine, impostor]))
    middle = (distinct[:-1] + distinct[1:]) / 2
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])  # neighbors in float64 have no middle
    threshold: np.ndarray = np.r_[np.nextafter(distinct[-1], np.inf), middle[::-1], distinct[0]]
    far, tar = (
        (len(scores) - np.searchsorted(scores, threshold)) / len(scores) for scores in (impostor, genuine)
    )
    return Roc(threshold, far, tar)


def auc(genuine: Values, impostor: Values) -> float:
    """Area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2, in [0, 1].

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.

    >>> auc(torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.2]))
    0.875
    """
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    below, not_above = (np.searchsorted(impostor, genuine, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(impostor)))


def eer(genuine: Values, impostor: Values) -> float:
    """Equal error rate, in [0, 1]: where the ROC, linearly interpolated, meets far = 1 - tar.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.

    >>> eer(torch.tensor([0.8, 0.6, 0.3]), torch.tensor([0.6, 0.2, 0.1]))
    0.3333333333333333
    """
    curve = roc(genuine, impostor)
    gap = curve.far - (1 - curve.tar)  # ascends from -1 to 1
    after = int((gap >= 0).argmax())
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return float(curve.far[before] + part * (curve.far[after] - curve.far[before]))


def tenfold_accuracy(score: Values, same: Values, fold: Values) -> tuple[Tensor, Tensor, Tensor]:
    """Accuracy of each fold at the threshold that is best on all other folds, and the mean.

    Of several thresholds that are equally good on the other folds, the middle one is used. The lowest or the
    highest would change the pocket teacher's LFW and CFP accuracies by one to three pairs (at most 0.05
    points), so the last digit of such an accuracy is a convention.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs.
        fold: (P,) fold of each pair, any integers; usually ten distinct ones, at least two.

    Returns:
        () mean accuracy, (F,) accuracy and (F,) threshold of each fold, folds in ascending order; float64.

    Raises:
        ValueError: If lengths differ, a score is not finite, or there is only one fold.

    >>> score, same = torch.tensor([0.8, 0.1, 0.7, 0.2]), torch.tensor([True, False, True, False])
    >>> mean, _, threshold = tenfold_accuracy(score, same, torch.tensor([0, 0, 1, 1]))
    >>> mean.item(), [round(value, 2) for value in threshold.tolist()]
    (1.0, [0.45, 0.45])
    """
    score, same = _checked_pairs(score, same, fold)
    order = np.argsort(score)
    ascending, label = score[order].astype(np.float64), same[order]
    fold = torch.as_tensor(fold).flatten().cpu().numpy()[order]
    folds = np.unique(fold)
    if len(folds) < 2:
        raise ValueError(f"fold must name at least two folds, got {len(folds)}")
    accuracy, threshold = np.empty(len(folds)), np.empty(len(folds))
    for number, held_out in enumerate(folds):
        inside = fold == held_out
        threshold[number] = best = _best_threshold(ascending[~inside], label[~inside])
        accuracy[number] = ((ascending[inside] >= best) == label[inside]).mean()
    per_fold = torch.from_numpy(accuracy)
    return per_fold.mean(), per_fold, torch.from_numpy(threshold)


def verification_summary(
    score: Values,
    same: Values,
    fold: Values | None,
    *,
    fars: Mapping[str, float] = FARS,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """All verification figures of one protocol in a results file, as plain numbers; rates are fractions.

    Intervals cover 95 %. Accuracy: a t-interval over folds, or Clopper-Pearson over pairs where all folds
    agree. AUC and EER: a bootstrap over pairs, of width 0 where the scores separate completely; from 200,000
    pairs on, see `binned_bootstrap_intervals`. TAR: Clopper-Pearson at the threshold found, whose own
    uncertainty is not included.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs; both kinds must occur.
        fold: (P,) fold of each pair; None for a protocol without folds (IJB), which has no accuracy.
        fars: False accept rates by label.
        resamples: Bootstrap samples of AUC and EER.
        seed: Seed of the bootstrap.

    Returns:
        `pairs`, `genuine`, `impostor`; with folds `accuracy`, `accuracy_std` (over folds, n - 1),
        `accuracy_ci`, `threshold` (mean over folds); `auc`, `auc_ci`, `eer`, `eer_ci`; `tar` (convention
        `leq`) and `tar_nearest`, each mapping the labels of `fars` to `tar`, `threshold`, `ci`, or to
        "not measurable".

    >>> same = torch.arange(400) % 2 == 0
    >>> summary = verification_summary(same + torch.rand(400) / 2, same, torch.arange(400) // 40, resamples=10)
    >>> summary["accuracy"], summary["auc"], summary["tar"]["1e-2"]["tar"], summary["tar"]["1e-4"]
    (1.0, 1.0, 1.0, 'not measurable')
    """
    score, same = _checked_pairs(score, same, same if fold is None else fold)
    genuine, impostor = score[same], score[~same]
    summary: dict[str, Any] = {"pairs": len(score), "genuine": len(genuine), "impostor": len(impostor)}
    if fold is not None:
        summary |= accuracy_figures(score, same, fold)
    if len(score) >= _MANY_PAIRS:
        intervals = binned_bootstrap_intervals(genuine, impostor, resamples=resamples, seed=seed)
    else:
        metrics = {"auc": auc, "eer": eer}
        intervals = bootstrap_intervals(metrics, genuine, impostor, resamples=resamples, seed=seed)
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    summary |= {"auc": auc(genuine, impostor), "auc_ci": list(intervals["auc"])}
    summary |= {"eer": eer(genuine, impostor), "eer_ci": list(intervals["eer"])}
    summary["tar"] = _tar_entries(genuine, impostor, fars, "leq")
    summary["tar_nearest"] = _tar_entries(genuine, impostor, fars, "nearest")
    return summary


def accuracy_figures(score: Values, same: Values, fold: Values) -> dict[str, Any]:
    """`accuracy`, `accuracy_std`, `accuracy_ci` and `threshold` of `verification_summary`."""
    mean, per_fold, thresholds = tenfold_accuracy(score, same, fold)
    low, high = mean_interval(per_fold)
    if low == high:
        low, high = clopper_pearson(round(mean.item() * len(score)), len(score))
    return {
        "accuracy": mean.item(),
        "accuracy_std": per_fold.std(correction=1).item(),
        "accuracy_ci": [max(low, 0.0), min(high, 1.0)],
        "threshold": thresholds.mean().item(),
    }


def _tar_entries(
    genuine: np.ndarray, impostor: np.ndarray, fars: Mapping[str, float], convention: Convention
) -> dict[str, Any]:
    entries: dict[str, Any] = dict.fromkeys(fars, NOT_MEASURABLE)
    for label, far in fars.items():
        if far * len(impostor) >= 1 - ROUNDING:
            tar, threshold = operating_point(genuine, impostor, far, convention)
            interval = clopper_pearson(round(tar * len(genuine)), len(genuine))
            entries[label] = {"tar": tar, "threshold": threshold, "ci": list(interval)}
    return entries


def _best_threshold(ascending: np.ndarray, same: np.ndarray) -> float:
    """The middle one of the thresholds that decide the most pairs correctly."""
    last = np.append(
        np.flatnonzero(ascending[1:] > ascending[:-1]), len(ascending) - 1
    )  # of each run of ties
    # Rejecting the scores up to `last` gains each impostor pair among them and loses each genuine one.
    gain = np.append(0, last + 1 - 2 * np.cumsum(same)[last])
    best = np.flatnonzero(gain == gain.max())
    chosen = best[len(best) // 2]
    if chosen == 0:
        return float(ascending[0])
    highest_rejected = float(ascending[last[chosen - 1]])
    if chosen == len(last):
        return math.nextafter(highest_rejected, math.inf)
    return between(highest_rejected, float(ascending[last[chosen]]))


def _checked_pairs(score: Values, same: Values, fold: Values) -> tuple[np.ndarray, np.ndarray]:
    score = checked_scores(score, "score")
    same = torch.as_tensor(same).flatten().bool().cpu().numpy()
    if not len(score) == len(same) == len(fold):
        raise ValueError(
            f"score, same, fold must be of one length, got {len(score)}, {len(same)}, {len(fold)}"
        )
    return score, same
