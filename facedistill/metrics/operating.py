"""TAR at given FARs from one sort of the scores, without building the curve: fast enough for IJB-C's 15.7 M pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

Values: TypeAlias = Tensor | np.ndarray
Convention: TypeAlias = Literal["leq", "nearest"]

NOT_MEASURABLE = "not measurable"
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
            higher of two that are equally near (the rule of the IJB scripts). `nearest` equals `leq` or is
            one step more optimistic.

    Returns:
        For each rate, the true accept rate as a fraction, and the threshold.

    Raises:
        ValueError: If a rate is below 1 / Q, which Q scores cannot measure, or above 1.

    >>> genuine, impostor = torch.tensor([0.9, 0.7, 0.4]), torch.linspace(0, 0.5, 11)
    >>> [(tar, threshold)] = tars_at_fars(genuine, impostor, [0.1])
    >>> round(tar, 3), round(threshold, 3)
    (0.667, 0.475)
    """
    if convention not in ("leq", "nearest"):
        raise ValueError(f"convention must be leq or nearest, got {convention!r}")
    genuine, impostor = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    return [operating_point(genuine, impostor, far, convention) for far in fars]


def operating_point(
    genuine: np.ndarray, impostor: np.ndarray, far: float, convention: Convention
) -> tuple[float, float]:
    """`tars_at_fars` for one rate and scores that are sorted already."""
    q = len(impostor)
    if not 1 / q * (1 - ROUNDING) <= far <= 1:
        raise ValueError(f"far must be within 1 / impostors = {1 / q:.3g} and 1, got {far:g}")
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
    threshold = between(highest, min(accepted)) if accepted else math.nextafter(highest, math.inf)
    return (len(genuine) - missed) / len(genuine), threshold


def between(low: float, high: float) -> float:
    """A threshold that rejects `low` and accepts `high`: the middle, or `high` where float64 has none."""
    middle = (low + high) / 2
    return middle if middle > low else high
