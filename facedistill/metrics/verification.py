"""From the scores of genuine and impostor pairs to the figures that a table shows.

A pair is accepted when its score is >= the threshold. Every figure is exact: the candidate thresholds are the
boundaries between neighboring distinct scores, never a grid. Scores of any precision, as tensors or arrays,
are compared in float64. Rates are fractions.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import bootstrap_interval, clopper_pearson, mean_interval

Values: TypeAlias = Tensor | np.ndarray
Convention: TypeAlias = Literal["leq", "nearest"]

FARS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
NOT_MEASURABLE = "not measurable"


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
    distinct = torch.unique(_scores(score, "score"))
    middle = (distinct[:-1] + distinct[1:]) / 2
    middle = torch.where(middle > distinct[:-1], middle, distinct[1:])  # neighbors in float64 have no middle
    above = torch.nextafter(distinct[-1:], torch.full_like(distinct[-1:], torch.inf))
    return torch.cat([distinct[:1], middle, above])


def roc(genuine: Values, impostor: Values) -> Roc:
    """Every operating point that these pairs can show.

    Args:
        genuine: (P,) scores of same-identity pairs; higher is more alike.
        impostor: (Q,) scores of different-identity pairs.
    """
    genuine, impostor = _scores(genuine, "genuine"), _scores(impostor, "impostor")
    threshold = boundaries(torch.cat([genuine, impostor])).flip(0)
    return Roc(threshold, _accepted(impostor, threshold), _accepted(genuine, threshold))


def tar_at_far(
    genuine: Values, impostor: Values, far: float, convention: Convention = "leq"
) -> tuple[Tensor, Tensor]:
    """True accept rate at the laxest threshold whose false accept rate is admitted.

    Args:
        genuine: (P,) scores of same-identity pairs; higher is more alike.
        impostor: (Q,) scores of different-identity pairs.
        far: Wanted false accept rate, a fraction (1e-4), never a percentage.
        convention: `leq`: the measured rate is <= `far`. `nearest`: it is the one nearest to `far`, above or
            below, the higher when two are as near (the rule of the IJB scripts); so it equals `leq`, or
            flatters by one step.

    Returns:
        () true accept rate as a fraction, and () threshold.

    Raises:
        ValueError: If `far` is below 1 / Q, where no threshold can be measured, or above 1.
    """
    impostor = _scores(impostor, "impostor")
    floor = 1 / len(impostor)
    if not floor * (1 - 1e-9) <= far <= 1:
        raise ValueError(f"far must be within 1 / impostors = {floor:.3g} and 1, got {far:g}")
    curve = roc(genuine, impostor)
    if convention == "leq":
        chosen = (curve.far <= far * (1 + 1e-9)).nonzero().max()
    elif convention == "nearest":
        distance = (curve.far - far).abs()
        chosen = (distance <= distance.min() + 1e-12).nonzero().max()
    else:
        raise ValueError(f"convention must be leq or nearest, got {convention!r}")
    return curve.tar[chosen], curve.threshold[chosen]


def auc(genuine: Values, impostor: Values) -> Tensor:
    """Area under the ROC: P(genuine > impostor) + P(genuine = impostor) / 2 over all P·Q combinations.

    Args:
        genuine: (P,) scores.
        impostor: (Q,) scores.

    Returns:
        () in [0, 1].
    """
    genuine, impostor = _scores(genuine, "genuine"), torch.sort(_scores(impostor, "impostor")).values
    below = torch.searchsorted(impostor, genuine, side="left")
    not_above = torch.searchsorted(impostor, genuine, side="right")
    return (below + not_above).double().mean() / (2 * len(impostor))


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
    score, same, fold = _pairs(score, same, fold)
    folds = torch.unique(fold)
    if len(folds) < 2:
        raise ValueError(f"fold must name at least two folds, got {len(folds)}")
    accuracy, threshold = [], []
    for held_out in folds:
        inside = fold == held_out
        best = _best_threshold(score[~inside], same[~inside])
        threshold.append(best)
        accuracy.append(((score[inside] >= best) == same[inside]).double().mean())
    per_fold = torch.stack(accuracy)
    return per_fold.mean(), per_fold, torch.stack(threshold)


def verification_summary(
    score: Values, same: Values, fold: Values, *, resamples: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Everything a results file says about one protocol, as plain numbers; rates are fractions.

    Intervals cover 95 %: of accuracy, a t-interval over folds, or Clopper-Pearson over pairs where all folds
    agree; of AUC and EER, a bootstrap over pairs, which has no width where the scores separate fully; of
    TAR, Clopper-Pearson at the threshold as found (its own uncertainty is not included).

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs; both kinds must occur.
        fold: (P,) fold of each pair.
        resamples: Bootstrap samples of AUC and EER.
        seed: Seed of the bootstrap.

    Returns:
        `pairs`, `genuine`, `impostor`; `accuracy`, `accuracy_std` (over folds, n - 1), `accuracy_ci`,
        `threshold` (mean over folds); `auc`, `auc_ci`, `eer`, `eer_ci`; `tar` (convention `leq`) and
        `tar_nearest`, each mapping "1e-2", "1e-3", "1e-4" to `tar`, `threshold`, `ci`, or to
        "not measurable".
    """
    score, same, fold = _pairs(score, same, fold)
    genuine, impostor = score[same], score[~same]
    mean, per_fold, thresholds = tenfold_accuracy(score, same, fold)
    low, high = mean_interval(per_fold)
    if low == high:
        low, high = clopper_pearson(round(mean.item() * len(score)), len(score))
    summary: dict[str, Any] = {
        "pairs": len(score),
        "genuine": len(genuine),
        "impostor": len(impostor),
        "accuracy": mean.item(),
        "accuracy_std": per_fold.std(correction=1).item(),
        "accuracy_ci": [max(low, 0.0), min(high, 1.0)],
        "threshold": thresholds.mean().item(),
    }
    for name, statistic in (("auc", auc), ("eer", eer)):
        summary[name] = statistic(genuine, impostor).item()
        interval = bootstrap_interval(statistic, genuine, impostor, resamples=resamples, seed=seed)
        summary[f"{name}_ci"] = list(interval)
    summary["tar"] = {label: _tar_entry(genuine, impostor, far, "leq") for label, far in FARS.items()}
    summary["tar_nearest"] = {
        label: _tar_entry(genuine, impostor, far, "nearest") for label, far in FARS.items()
    }
    return summary


def _tar_entry(genuine: Tensor, impostor: Tensor, far: float, convention: Convention) -> dict[str, Any] | str:
    if far * len(impostor) < 1 - 1e-9:
        return NOT_MEASURABLE
    tar, threshold = tar_at_far(genuine, impostor, far, convention)
    accepted = round(tar.item() * len(genuine))
    return {
        "tar": tar.item(),
        "threshold": threshold.item(),
        "ci": list(clopper_pearson(accepted, len(genuine))),
    }


def _best_threshold(score: Tensor, same: Tensor) -> Tensor:
    candidates = boundaries(score)
    right = torch.zeros_like(candidates)
    if same.any():
        right += _accepted(score[same], candidates) * same.sum()
    if not same.all():
        right += (1 - _accepted(score[~same], candidates)) * (~same).sum()
    best = (right >= right.max() - 0.5).nonzero().flatten()  # counts: whole numbers up to rounding
    return candidates[best[len(best) // 2]]


def _accepted(score: Tensor, threshold: Tensor) -> Tensor:
    rejected = torch.searchsorted(torch.sort(score).values, threshold, side="left")
    return 1 - rejected.double() / len(score)


def _scores(values: Values, name: str) -> Tensor:
    scores = torch.as_tensor(values).detach().flatten().double()
    if len(scores) == 0:
        raise ValueError(f"{name} must hold at least one score")
    if not torch.isfinite(scores).all():
        raise ValueError(
            f"{name}: {int((~torch.isfinite(scores)).sum())} of {len(scores)} scores are not finite"
        )
    return scores


def _pairs(score: Values, same: Values, fold: Values) -> tuple[Tensor, Tensor, Tensor]:
    score = _scores(score, "score")
    same = torch.as_tensor(same, device=score.device).flatten().bool()
    fold = torch.as_tensor(fold, device=score.device).flatten()
    if not len(score) == len(same) == len(fold):
        raise ValueError(
            f"score, same, fold must be of one length, got {len(score)}, {len(same)}, {len(fold)}"
        )
    return score, same, fold
