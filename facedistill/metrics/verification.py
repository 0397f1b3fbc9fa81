"""From the scores of genuine and impostor pairs to the figures that a table shows.

A pair is accepted when its score is >= the threshold. Every figure is exact: the candidate thresholds are the
boundaries between neighboring distinct scores, never a grid. Scores of any precision, as tensors or arrays,
are compared in float64. Rates are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import (
    binned_bootstrap_intervals,
    bootstrap_interval,
    clopper_pearson,
    mean_interval,
)
from facedistill.metrics.operating import (
    Convention,
    Values,
    between,
    checked_scores,
    sorted_scores,
    tar_at_far,
    tars_at_fars,
)

__all__ = [
    "FARS", "NOT_MEASURABLE", "Convention", "Roc", "Values", "auc", "boundaries", "eer", "roc", "tar_at_far",
    "tars_at_fars", "tenfold_accuracy", "verification_summary",
]  # fmt: skip

FARS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
NOT_MEASURABLE = "not measurable"
_MANY_PAIRS = 200_000  # from here on the bootstrap draws counts of bins


class Roc(NamedTuple):
    """The receiver operating characteristic, from the strictest threshold (accepts none) to the laxest (all).

    Attributes:
        threshold: (T,) strictly falling.
        far: (T,) false accept rate, rising from 0 to 1.
        tar: (T,) true accept rate, rising from 0 to 1.
    """

    threshold: Tensor
    far: Tensor
    tar: Tensor


def boundaries(score: Values) -> Tensor:
    """All thresholds that decide differently on these scores, rising.

    Args:
        score: (P,) scores, P >= 1.

    Returns:
        (U + 1,) for U distinct scores: the lowest score (accepts all), the middles between neighbors, and the
        next number above the highest score (accepts none).
    """
    return _thresholds(torch.unique(checked_scores(score, "score")))


def roc(genuine: Values, impostor: Values) -> Roc:
    """Every operating point that these pairs can show, from one sort.

    Args:
        genuine: (P,) scores of same-identity pairs; higher is more alike.
        impostor: (Q,) scores of different-identity pairs.
    """
    genuine, impostor = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    score, order = torch.sort(torch.cat([genuine, impostor]), descending=True)
    last = _ends_of_ties(score)
    accepted = (order < len(genuine)).cumsum(0)[last]
    zero = accepted.new_zeros(1)
    tar = torch.cat([zero, accepted]).double() / len(genuine)
    far = torch.cat([zero, last + 1 - accepted]).double() / len(impostor)
    return Roc(_thresholds(score[last].flip(0)).flip(0), far, tar)


def auc(genuine: Values, impostor: Values) -> Tensor:
    """Area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2 over all P·Q combinations.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.

    Returns:
        () in [0, 1].
    """
    genuine = checked_scores(genuine, "genuine")
    rising = torch.from_numpy(sorted_scores(impostor, "impostor")).to(genuine)
    below = torch.searchsorted(rising, genuine, side="left")
    not_above = torch.searchsorted(rising, genuine, side="right")
    return (below + not_above).double().mean() / (2 * len(rising))


def eer(genuine: Values, impostor: Values) -> Tensor:
    """Equal error rate: where the ROC, its points joined by straight lines, meets far = 1 - tar.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.

    Returns:
        () in [0, 1].
    """
    curve = roc(genuine, impostor)
    gap = curve.far - (1 - curve.tar)  # rises from -1 to 1
    after = int((gap >= 0).nonzero().min())
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    return curve.far[before] + part * (curve.far[after] - curve.far[before])


def tenfold_accuracy(score: Values, same: Values, fold: Values) -> tuple[Tensor, Tensor, Tensor]:
    """Accuracy of each fold at the threshold that is best on all other folds, and its mean.

    Where several thresholds are equally good on the other folds, the middle one of them is taken. Taking the
    lowest or the highest instead moves the pocket teacher's LFW and CFP figures by one to three pairs
    (at most 0.05 points), so the last digit of such an accuracy is convention.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs.
        fold: (P,) fold of each pair, any integers; customarily ten distinct ones, at least two.

    Returns:
        () mean accuracy, (F,) accuracy per fold and (F,) threshold per fold, folds in rising order.

    Raises:
        ValueError: If lengths differ, a score is not finite, or there is only one fold.
    """
    score, same = _pairs(score, same, fold)
    fold = torch.as_tensor(fold, device=score.device).flatten()
    order = torch.argsort(score)
    rising, label, fold_of = (values[order].cpu().numpy() for values in (score, same, fold))
    folds = np.unique(fold_of)
    if len(folds) < 2:
        raise ValueError(f"fold must name at least two folds, got {len(folds)}")
    accuracy, threshold = np.empty(len(folds)), np.empty(len(folds))
    for number, held_out in enumerate(folds):
        inside = fold_of == held_out
        threshold[number] = best = _best_threshold(rising[~inside], label[~inside])
        accuracy[number] = ((rising[inside] >= best) == label[inside]).mean()
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
    """Everything a results file says about one protocol, as plain numbers; rates are fractions.

    Intervals cover 95 %: of accuracy, a t-interval over folds, or Clopper-Pearson over pairs where all folds
    agree; of AUC and EER, a bootstrap over pairs, which has no width where the scores separate fully; of
    TAR, Clopper-Pearson at the threshold as found (its own uncertainty is not included). From 200,000 pairs
    on, the bootstrap draws counts of 4,096 bins, see `binned_bootstrap_intervals`.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs; both kinds must occur.
        fold: (P,) fold of each pair; None for a protocol without folds (IJB), which has no accuracy.
        fars: Wanted false accept rates by label.
        resamples: Bootstrap samples of AUC and EER.
        seed: Seed of the bootstrap.

    Returns:
        `pairs`, `genuine`, `impostor`; with folds `accuracy`, `accuracy_std` (over folds, n - 1),
        `accuracy_ci`, `threshold` (mean over folds); `auc`, `auc_ci`, `eer`, `eer_ci`; `tar` (convention
        `leq`) and `tar_nearest`, each mapping the labels of `fars` to `tar`, `threshold`, `ci`, or to
        "not measurable".
    """
    score, same = _pairs(score, same, same if fold is None else fold)
    genuine, impostor = score[same], score[~same]
    summary: dict[str, Any] = {"pairs": len(score), "genuine": len(genuine), "impostor": len(impostor)}
    if fold is not None:
        summary |= _accuracy_entries(score, same, fold)
    if len(score) >= _MANY_PAIRS:
        intervals = binned_bootstrap_intervals(genuine, impostor, resamples=resamples, seed=seed)
    else:
        intervals = {
            name: bootstrap_interval(statistic, genuine, impostor, resamples=resamples, seed=seed)
            for name, statistic in (("auc", auc), ("eer", eer))
        }
    for name, statistic in (("auc", auc), ("eer", eer)):
        summary[name] = statistic(genuine, impostor).item()
        summary[f"{name}_ci"] = list(intervals[name])
    summary["tar"] = _tar_entries(genuine, impostor, fars, "leq")
    summary["tar_nearest"] = _tar_entries(genuine, impostor, fars, "nearest")
    return summary


def _accuracy_entries(score: Tensor, same: Tensor, fold: Values) -> dict[str, Any]:
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
    genuine: Tensor, impostor: Tensor, fars: Mapping[str, float], convention: Convention
) -> dict[str, Any]:
    measurable = [label for label, far in fars.items() if far * len(impostor) >= 1 - 1e-9]
    points = tars_at_fars(genuine, impostor, [fars[label] for label in measurable], convention)
    entries: dict[str, Any] = dict.fromkeys(fars, NOT_MEASURABLE)
    for label, (tar, threshold) in zip(measurable, points, strict=True):
        interval = clopper_pearson(round(tar * len(genuine)), len(genuine))
        entries[label] = {"tar": tar, "threshold": threshold, "ci": list(interval)}
    return entries


def _best_threshold(rising: np.ndarray, same: np.ndarray) -> float:
    """The middle one of the thresholds that decide the most pairs right, from scores that rise."""
    last = np.append(np.flatnonzero(rising[1:] > rising[:-1]), len(rising) - 1)
    # Rejecting up to and with `last` gains each impostor among them and loses each genuine pair.
    gain = np.append(0, last + 1 - 2 * np.cumsum(same)[last])
    best = np.flatnonzero(gain == gain.max())
    chosen = best[len(best) // 2]
    if chosen == 0:
        return float(rising[0])
    if chosen == len(last):
        return float(np.nextafter(rising[-1], np.inf))
    return between(float(rising[last[chosen - 1]]), float(rising[last[chosen]]))


def _ends_of_ties(ordered: Tensor) -> Tensor:
    """(U,) place of the last of each run of equal scores."""
    changes = (ordered[1:] != ordered[:-1]).nonzero().flatten()
    return torch.cat([changes, changes.new_tensor([len(ordered) - 1])])


def _thresholds(distinct: Tensor) -> Tensor:
    middle = (distinct[:-1] + distinct[1:]) / 2
    middle = torch.where(middle > distinct[:-1], middle, distinct[1:])  # neighbors in float64 have no middle
    above = torch.nextafter(distinct[-1:], torch.full_like(distinct[-1:], torch.inf))
    return torch.cat([distinct[:1], middle, above])


def _pairs(score: Values, same: Values, fold: Values) -> tuple[Tensor, Tensor]:
    score = checked_scores(score, "score")
    same = torch.as_tensor(same, device=score.device).flatten().bool()
    if not len(score) == len(same) == len(fold):
        raise ValueError(
            f"score, same, fold must be of one length, got {len(score)}, {len(same)}, {len(fold)}"
        )
    return score, same
