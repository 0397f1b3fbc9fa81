"""TAR at wanted FARs from one sort of the scores; no curve is built, so that 15.7 M of them take a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

Values: TypeAlias = Tensor | np.ndarray
Convention: TypeAlias = Literal["leq", "nearest"]

_ROUNDING = 1e-9


def checked_scores(values: Values, name: str) -> Tensor:
    """(P,) finite scores in float64.

    Raises:
        ValueError: If there is none, or one is not finite.
    """
    return _finite(values, name).double()


def sorted_scores(values: Values, name: str) -> np.ndarray:
    """(P,) finite scores on the CPU, rising, in the precision they came in (at least float32).

    Raises:
        ValueError: If there is none, or one is not finite.
    """
    scores = _finite(values, name).cpu()
    scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.double()
    return np.sort(scores.numpy())


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
    ((tar, threshold),) = tars_at_fars(genuine, impostor, [far], convention)
    return torch.tensor(tar, dtype=torch.float64), torch.tensor(threshold, dtype=torch.float64)


def tars_at_fars(
    genuine: Values, impostor: Values, fars: Sequence[float], convention: Convention = "leq"
) -> list[tuple[float, float]]:
    """`tar_at_far` at several rates, each a true accept rate and a threshold, after one sort.

    Raises:
        ValueError: If a rate is below 1 / Q or above 1.
    """
    if convention not in ("leq", "nearest"):
        raise ValueError(f"convention must be leq or nearest, got {convention!r}")
    same, other = sorted_scores(genuine, "genuine"), sorted_scores(impostor, "impostor")
    return [_point(same, other, far, convention) for far in fars]


def between(low: float, high: float) -> float:
    """A threshold that rejects `low` and accepts `high`: their middle, or `high` where float64 has none."""
    middle = (low + high) / 2
    return middle if middle > low else high


def _point(
    genuine: np.ndarray, impostor: np.ndarray, far: float, convention: Convention
) -> tuple[float, float]:
    q = len(impostor)
    if not 1 / q * (1 - _ROUNDING) <= far <= 1:
        raise ValueError(f"far must be within 1 / impostors = {1 / q:.3g} and 1, got {far:g}")
    # `leq` accepts what is above the highest impostor that must be rejected, and nothing that ties with it.
    rejected = q - min(q, math.floor(far * q * (1 + _ROUNDING)))
    if convention == "nearest" and rejected:
        highest = impostor[rejected - 1]
        below = int(np.searchsorted(impostor, highest, side="left"))
        above = int(np.searchsorted(impostor, highest, side="right"))
        if (q - below) / q - far <= far - (q - above) / q + 1e-12:
            rejected = below
    if not rejected:
        return 1.0, float(min(genuine[0], impostor[0]))
    highest = impostor[rejected - 1]
    missed = int(np.searchsorted(genuine, highest, side="right"))
    accepted = int(np.searchsorted(impostor, highest, side="right"))
    following = [
        float(scores[at]) for scores, at in ((genuine, missed), (impostor, accepted)) if at < len(scores)
    ]
    tar = (len(genuine) - missed) / len(genuine)
    if not following:
        return tar, math.nextafter(float(highest), math.inf)
    return tar, between(float(highest), min(following))


def _finite(values: Values, name: str) -> Tensor:
    scores = torch.as_tensor(values).detach().flatten()
    if len(scores) == 0:
        raise ValueError(f"{name} must hold at least one score")
    broken = ~torch.isfinite(scores)
    if broken.any():
        raise ValueError(f"{name}: {int(broken.sum())} of {len(scores)} scores are not finite")
    return scores
