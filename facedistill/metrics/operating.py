"""TAR at given FARs from one sort of the scores, without building the curve: fast enough for IJB-C's 15.7 M pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

Values: TypeAlias = Tensor | np.ndarray
Convention: TypeAlias = Literal["leq", "nearest", "insightface"]

NOT_MEASURABLE = "not measurable"
_REACH = 256  # false accepts on both sides of the wanted number that are looked at first
ROUNDING = 1e-9  # relative, so that 0.29 of 100 scores are 29 of them


def checked_scores(values: Values, name: str) -> np.ndarray:
    """(P,) finite scores as float32 or float64, whichever holds them exactly.

    Raises:
        ValueError: If there is no score, or one is not finite.
    """
    tensor = torch.as_tensor(values).detach().flatten().cpu()
    scores = (tensor if tensor.dtype == torch.float32 else tensor.double()).numpy()
    if len(scores) == 0:
        raise ValueError(f"{name} must hold at least one score")
    invalid = len(scores) - np.count_nonzero(np.isfinite(scores))
    if invalid:
        raise ValueError(f"{name}: {invalid} of {len(scores)} scores are not finite")
    return scores


def sorted_scores(values: Values, name: str) -> np.ndarray:
    """`checked_scores` in ascending order, as float64."""
    return np.sort(checked_scores(values, name)).astype(np.float64, copy=False)


def tars_at_fars(
    genuine: Values, impostor: Values, fars: Sequence[float], convention: Convention = "leq"
) -> list[tuple[float, float]]:
    """True accept rate at the lowest threshold that each false accept rate allows.

    Args:
        genuine: (P,) scores of same-identity pairs; higher is more similar.
        impostor: (Q,) scores of different-identity pairs.
        fars: False accept rates as fractions (1e-4), each in [1 / Q, 1].
        convention: `leq`: the measured rate is <= the wanted one. `nearest`: it is the nearest one, and the
            higher of two that are equally near; it equals `leq` or is one step more optimistic. `insightface`: the
            same among the corners of the ROC only, as in insightface's `ijb_11.py`, whose `roc_curve` leaves out the
            points on straight lines; the measured rate may be far above the wanted one.

    Returns:
        For each rate, the true accept rate as a fraction, and the threshold.

    Raises:
        ValueError: If a rate is below 1 / Q, which Q scores cannot measure, or above 1.

    >>> genuine, impostor = torch.tensor([0.9, 0.7, 0.4]), torch.linspace(0, 0.5, 11)
    >>> [(tar, threshold)] = tars_at_fars(genuine, impostor, [0.1])
    >>> round(tar, 3), round(threshold, 3)
    (0.667, 0.475)
    """
    if convention not in ("leq", "nearest", "insightface"):
        raise ValueError(f"convention must be leq, nearest or insightface, got {convention!r}")
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    return [operating_point(genuine, impostor, far, convention) for far in fars]


def operating_point(
    genuine: np.ndarray, impostor: np.ndarray, far: float, convention: Convention
) -> tuple[float, float]:
    """`tars_at_fars` for one rate and scores that are sorted already."""
    q = len(impostor)
    if not 1 / q * (1 - ROUNDING) <= far <= 1:
        raise ValueError(f"far must be within 1 / impostors = {1 / q:.3g} and 1, got {far:g}")
    if convention == "insightface":
        return _nearest_corner(genuine, impostor, far)
    # `leq` accepts the scores above the highest impostor score that must be rejected, and no tie with it.
    rejected = q - min(q, math.floor(far * q * (1 + ROUNDING)))
    if convention == "nearest" and rejected:
        below, not_above = (
            int(np.searchsorted(impostor, impostor[rejected - 1], side)) for side in ("left", "right")
        )
        if (q - below) / q - far <= far - (q - not_above) / q + 1e-12:
            rejected = below
    if not rejected:
        return 1.0, float(min(genuine[0], impostor[0]))
    highest = float(impostor[rejected - 1])
    missed, not_accepted = (int(np.searchsorted(scores, highest, "right")) for scores in (genuine, impostor))
    accepted = [*genuine[missed : missed + 1].tolist(), *impostor[not_accepted : not_accepted + 1].tolist()]
    threshold = between(highest, min(accepted)) if accepted else above(highest)
    return (len(genuine) - missed) / len(genuine), threshold


def _nearest_corner(genuine: np.ndarray, impostor: np.ndarray, far: float) -> tuple[float, float]:
    """The corner of the ROC whose false accept rate is nearest, and its threshold, which is a score.

    Looks at the scores around the wanted rate, and at more of them until no corner outside can be nearer.
    """
    p, q = len(genuine), len(impostor)
    wanted, reach = far * q, _REACH
    while True:
        first, last = max(0, math.floor(wanted) - reach), min(q, math.ceil(wanted) + reach)  # false accepts
        high = math.inf if first == 0 else float(impostor[q - first])
        low = -math.inf if last == q else float(impostor[q - last])
        inside = [
            scores[np.searchsorted(scores, low, "left") : np.searchsorted(scores, high, "right")]
            for scores in (genuine, impostor)
        ]
        distinct = np.unique(np.concatenate(inside))[::-1]
        accepts = np.stack([len(s) - np.searchsorted(s, distinct) for s in (genuine, impostor)])
        bends = (np.diff(accepts, n=2) != 0).any(axis=0)
        is_corner = (
            np.concatenate([[first == 0], bends, [last == q]]) if len(distinct) > 1 else np.ones(1, bool)
        )
        tar, rate = accepts[:, is_corner] / [[p], [q]]
        threshold = distinct[is_corner]
        if first == 0:  # the curve begins at the origin
            tar, rate = np.append(0, tar), np.append(0, rate)
            threshold = np.append(above(float(distinct[0])), threshold)
        distance = np.abs(rate - far)
        if len(rate) and (distance.min() * q < reach - 1 or (first == 0 and last == q)):
            best = np.flatnonzero(distance == distance.min())[-1]
            return float(tar[best]), float(threshold[best])
        reach *= 4


def between(low: float, high: float) -> float:
    """A threshold that rejects `low` and accepts `high`, in float32 too: the middle, or `high` where there is none."""
    middle = (low + high) / 2
    return middle if np.float32(middle) > np.float32(low) else high


def above(score: float) -> float:
    """The lowest float32 above a score: a threshold that rejects it, compared in float32 or float64."""
    return float(np.nextafter(np.float32(score), np.float32(np.inf)))
