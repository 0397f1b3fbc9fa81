"""Verification metrics from the scores of genuine and impostor pairs.

A pair is accepted when its score is >= the threshold. Every metric is exact: the candidate thresholds lie between
neighboring distinct scores, never on a grid. Scores of any precision are compared in float64. Rates are fractions.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import Interval
from facedistill.metrics.operating import (
    NOT_MEASURABLE,
    ROUNDING,
    Convention,
    Values,
    above,
    between,
    checked_scores,
    operating_point,
    sorted_scores,
)
from facedistill.metrics.score_intervals import accuracy_interval, auc_interval, eer_interval, tar_interval

FARS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
INTERVALS = "threshold-refit"
"""Name of the rule of the intervals in results; entries without a name have TAR's at the threshold as found."""


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
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")

    def rates(threshold: float) -> tuple[float, float]:
        """False accept and false reject rate."""
        rejected = np.searchsorted(impostor, threshold) / len(impostor)
        return float(1 - rejected), float(np.searchsorted(genuine, threshold) / len(genuine))

    def is_above(score: float) -> bool:
        """False up to the score at which far = frr, true above."""
        far, frr = rates(score)
        return far < frr

    found = [(scores, bisect.bisect_left(scores, True, key=is_above)) for scores in (genuine, impostor)]
    after = max(float(scores[number - 1]) for scores, number in found if number)
    before = min(
        (float(scores[number]) for scores, number in found if number < len(scores)), default=math.inf
    )
    (far, frr), (far_before, frr_before) = rates(after), rates(before)
    part = (frr_before - far_before) / ((frr_before - far_before) + (far - frr))
    return far_before + part * (far - far_before)


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
    score: Values, same: Values, fold: Values | None, *, fars: Mapping[str, float] = FARS
) -> dict[str, Any]:
    """All verification figures of one protocol in a results file, as plain numbers; rates are fractions.

    Intervals cover 95 %, thresholds fitted again; see `facedistill.metrics.score_intervals`. Those of TAR are of the
    rate at the threshold whose true false accept rate is the given one, for both conventions.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs; both kinds must occur.
        fold: (P,) fold of each pair; None for a protocol without folds (IJB), which has no accuracy.
        fars: False accept rates by label.

    Returns:
        `pairs`, `genuine`, `impostor`, `intervals` (the rule's name); with folds `accuracy`, `accuracy_std` (over
        folds, n - 1), `accuracy_ci`, `threshold` (mean over folds); `auc`, `auc_ci`, `eer`, `eer_ci`; `tar`
        (convention `leq`) and `tar_nearest`, each mapping the labels of `fars` to `tar`, `threshold`, `ci`, or to
        "not measurable".

    >>> same = torch.arange(400) % 2 == 0
    >>> summary = verification_summary(same + torch.rand(400) / 2, same, torch.arange(400) // 40)
    >>> summary["accuracy"], summary["auc"], summary["tar"]["1e-2"]["tar"], summary["tar"]["1e-4"]
    (1.0, 1.0, 1.0, 'not measurable')
    """
    score, same = _checked_pairs(score, same, same if fold is None else fold)
    genuine, impostor = sorted_scores(score[same], "genuine"), sorted_scores(score[~same], "impostor")
    counts = {"pairs": len(score), "genuine": len(genuine), "impostor": len(impostor)}
    summary: dict[str, Any] = {**counts, "intervals": INTERVALS}
    if fold is not None:
        summary |= accuracy_figures(score, same, fold)
    area, rate = auc(genuine, impostor), eer(genuine, impostor)
    summary |= {"auc": area, "auc_ci": _around(auc_interval(genuine, impostor), area)}
    summary |= {"eer": rate, "eer_ci": _around(eer_interval(genuine, impostor), rate)}
    return summary | _tar_entries(genuine, impostor, fars)


def accuracy_figures(score: Values, same: Values, fold: Values) -> dict[str, Any]:
    """`accuracy`, `accuracy_std`, `accuracy_ci` and `threshold` of `verification_summary`."""
    score, same = _checked_pairs(score, same, fold)
    mean, per_fold, thresholds = tenfold_accuracy(score, same, fold)
    order = np.argsort(score)
    ascending, label = score[order].astype(np.float64), same[order]
    fitted = int(np.count_nonzero((ascending >= _best_threshold(ascending, label)) == label))
    interval = accuracy_interval(mean.item() * len(score), fitted, len(score))
    return {
        "accuracy": mean.item(),
        "accuracy_std": per_fold.std(correction=1).item(),
        "accuracy_ci": _around(interval, mean.item()),
        "threshold": thresholds.mean().item(),
    }


def _tar_entries(genuine: np.ndarray, impostor: np.ndarray, fars: Mapping[str, float]) -> dict[str, Any]:
    """`tar` and `tar_nearest`."""
    keys: dict[str, Convention] = {"tar": "leq", "tar_nearest": "nearest"}
    entries: dict[str, Any] = {key: dict.fromkeys(fars, NOT_MEASURABLE) for key in keys}
    for label, far in fars.items():
        if far * len(impostor) < 1 - ROUNDING:
            continue
        interval = tar_interval(genuine, impostor, far)
        for key, convention in keys.items():
            tar, threshold = operating_point(genuine, impostor, far, convention)
            entries[key][label] = {"tar": tar, "threshold": threshold, "ci": _around(interval, tar)}
    return entries


def insightface_tars(genuine: Values, impostor: Values, fars: Mapping[str, float] = FARS) -> dict[str, Any]:
    """TAR by the rule of insightface's `ijb_11.py`, see `tars_at_fars`: `tar` and `threshold` by label of `fars`.

    "Not measurable" below 1 / impostors, where the script prints a number. No interval: the rate is not one at the
    given false accept rate.

    >>> insightface_tars(torch.tensor([1.0, 0.5]), torch.tensor([0.75, 0.25]), {"0.5": 0.5, "1e-1": 0.1})
    {'0.5': {'tar': 1.0, 'threshold': 0.5}, '1e-1': 'not measurable'}
    """
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    entries: dict[str, Any] = dict.fromkeys(fars, NOT_MEASURABLE)
    for label, far in fars.items():
        if far * len(impostor) >= 1 - ROUNDING:
            tar, threshold = operating_point(genuine, impostor, far, "insightface")
            entries[label] = {"tar": tar, "threshold": threshold}
    return entries


def _around(interval: Interval, value: float) -> list[float]:
    """The interval, extended to the value where rounding or a tie leaves it outside."""
    return [min(interval[0], value), max(interval[1], value)]


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
        return above(highest_rejected)
    return between(highest_rejected, float(ascending[last[chosen]]))


def _checked_pairs(score: Values, same: Values, fold: Values) -> tuple[np.ndarray, np.ndarray]:
    score = checked_scores(score, "score")
    same = torch.as_tensor(same).flatten().bool().cpu().numpy()
    if not len(score) == len(same) == len(fold):
        raise ValueError(
            f"score, same, fold must be of one length, got {len(score)}, {len(same)}, {len(fold)}"
        )
    return score, same
