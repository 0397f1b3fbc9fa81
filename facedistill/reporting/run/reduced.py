"""Curves, faces and ROC reduced to what a figure can show; without a plotting library."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from facedistill.reporting.run.files import Series

_SMOOTHED_SHARE = 0.03
_MOST_POINTS = 160  # of a curve among many
_MOST_STEPS = 4000  # of a drawn curve: finer than a pixel; IJB's have a million


class Curve(Protocol):
    """A ROC: FAR (T,), rising, and TAR (T,)."""

    @property
    def far(self) -> np.ndarray: ...

    @property
    def tar(self) -> np.ndarray: ...


def smoothed(value: np.ndarray) -> np.ndarray:
    """Centered mean over about 3 % of the values (T,), the window cut off at both ends."""
    half = int(len(value) * _SMOOTHED_SHARE / 2)
    total = np.concatenate([[0.0], np.cumsum(value)])
    at = np.arange(len(value))
    first, after = np.maximum(at - half, 0), np.minimum(at + half + 1, len(value))
    return (total[after] - total[first]) / (after - first)


def thinned(series: Series, *, smooth: bool) -> tuple[list[int], list[float]]:
    """Images seen and values of at most 160 finite points, evenly spaced in their order."""
    value = smoothed(series.value) if smooth else series.value
    finite = np.flatnonzero(np.isfinite(value))
    if len(finite) > _MOST_POINTS:
        finite = finite[np.linspace(0, len(finite) - 1, _MOST_POINTS).round().astype(int)]
    seen = np.round(series.images_seen[finite]).astype(int).tolist()
    return seen, [float(f"{one:.5g}") for one in value[finite].tolist()]


def least_to_most(cosines: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` of `cosines`, rising, evenly spaced in their order; of all where there are fewer."""
    order = np.argsort(cosines, kind="stable")
    if len(order) <= count:
        return order
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def admitted(curve: Curve, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The highest TAR at or below each FAR, from `floor` on: a step function, the same rule as in the table.

    Args:
        curve: The ROC.
        floor: The lowest FAR that the impostor pairs can measure.

    Returns:
        (T,) FARs, rising from `floor`, at which the TAR changes, and the TAR (T,) from there to the next.
    """
    far, tar = curve.far, curve.tar
    last = np.append(np.diff(far) > 0, True)  # of the points at one FAR, the one with the highest TAR
    far, tar = far[last], tar[last]
    first = int(np.searchsorted(far, floor * (1 + 1e-9), side="right")) - 1
    far, tar = np.append(floor, far[first + 1 :]), tar[first:]
    if len(far) > _MOST_STEPS:
        wanted = np.geomspace(floor, 1, _MOST_STEPS)
        chosen = np.unique(np.searchsorted(far, wanted, side="right") - 1)
        far, tar = far[chosen], tar[chosen]
    return far, tar


def roc_steps(genuine: np.ndarray, impostor: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """`admitted` of the ROC of these scores, at about `most` of its FARs, without building the ROC.

    Args:
        genuine: (P,) scores of same-identity pairs, rising.
        impostor: (Q,) scores of different-identity pairs, rising.
        most: Steps at most, evenly over the logarithm of the FAR.

    Returns:
        (T,) FARs, rising from 1 / Q, at which the TAR changes, and the TAR (T,) from there to the next.
    """
    falling = impostor[::-1]
    accepted = (
        np.unique(np.geomspace(1, len(falling), most).astype(int))
        if len(falling) > most
        else np.arange(1, len(falling) + 1)
    )
    accepted[-1] = len(falling)
    above = np.append(falling, -np.inf)[accepted]  # `accepted` impostors or fewer are higher than this one
    tar = 1 - np.searchsorted(genuine, above, side="right") / len(genuine)
    changes = np.append(True, np.diff(tar) > 0)
    return accepted[changes] / len(falling), tar[changes]
