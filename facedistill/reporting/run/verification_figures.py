"""Figures of a protocol's scores: histograms, ROC, DET."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from facedistill.metrics.verification import Roc, roc
from facedistill.reporting.figures import estimates
from facedistill.reporting.numbers import is_number
from facedistill.reporting.record import NETWORKS, Results
from facedistill.reporting.run.files import Scores
from facedistill.reporting.run.reduced import admitted
from facedistill.reporting.style import LINES, Drawing, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 64


def verification_drawings(protocol: str, scores: Mapping[str, Scores], results: Results) -> list[Drawing]:
    """Figures of one protocol.

    Args:
        protocol: Its key.
        scores: By network, "student" and "teacher"; one may be missing.
        results: Title, thresholds and points of the table.
    """
    if not scores:
        return []
    slug = re.sub(r"[^a-z0-9_-]+", "-", protocol.lower()) or "protocol"
    title = results.title(protocol)
    edges = _edges(scores)
    curves = {network: roc(one.genuine, one.impostor) for network, one in scores.items()}
    floor = 1 / min(len(one.impostor) for one in scores.values())
    summary = "; ".join(f"{network} {_operating_points(curve, floor)}" for network, curve in curves.items())
    histograms = [
        Drawing(
            f"{slug}-scores-{network}",
            f"{network.capitalize()} scores",
            _histogram_alt(title, network, one),
            partial(
                _draw_histogram,
                scores=one,
                edges=edges,
                threshold=_threshold(results.figures(network, protocol)),
            ),
        )
        for network, one in scores.items()
    ]
    least = 1 / min(len(one.genuine) for one in scores.values())
    points = {network: _points(results.figures(network, protocol)) for network in NETWORKS}
    draw_roc = partial(_draw_roc, curves=curves, points=points, floor=floor)
    draw_det = partial(_draw_det, curves=curves, floor=floor, least=least)
    return [
        *histograms,
        Drawing(f"{slug}-roc", "ROC", f"ROC on {title}: {summary}.", draw_roc),
        Drawing(f"{slug}-det", "DET", f"DET on {title}: {summary}.", draw_det),
    ]


def _threshold(figures: Mapping[str, Any]) -> float | None:
    value = figures.get("threshold")
    return value if is_number(value) else None


def _points(figures: Mapping[str, Any]) -> list[tuple[float, float, tuple[float, float]]]:
    """FAR, TAR and its interval, which is the TAR itself where there is none."""
    return [
        (float(name.removeprefix("tar@")), one.value, one.interval or (one.value, one.value))
        for name, one in estimates(figures).items()
        if re.fullmatch(r"tar@[\d.]+(e-?\d{1,3})?", name) and one.value is not None
    ]


def _edges(scores: Mapping[str, Scores]) -> np.ndarray:
    lowest = min(one.score.min() for one in scores.values())
    highest = max(one.score.max() for one in scores.values())
    return np.linspace(lowest, max(highest, lowest + 0.02), _BINS + 1)


def _draw_histogram(
    axes: Axes, theme: Theme, scores: Scores, edges: np.ndarray, threshold: float | None
) -> None:
    medians = float(np.median(scores.impostor)), float(np.median(scores.genuine))
    overlap = abs(medians[1] - medians[0]) < 0.2 * (edges[-1] - edges[0])
    sides = ("right", "left") if overlap else ("center", "center")  # labels side by side where humps are not
    kinds = (("impostor", theme.impostor, scores.impostor), ("genuine", theme.genuine, scores.genuine))
    top = 0.0
    for (kind, color, score), median, side in zip(kinds, medians, sides, strict=True):
        share = np.histogram(score, edges)[0] / len(score)
        top = max(top, share.max())
        axes.stairs(share, edges, fill=True, color=color, alpha=0.28)
        axes.stairs(share, edges, color=color, linewidth=1.5)
        axes.annotate(
            kind, (median, share.max()), xytext=({"right": -6, "left": 6}.get(side, 0), 4),
            textcoords="offset points", color=color, ha=side, fontweight="bold", fontsize=9,
        )  # fmt: skip
    axes.set_ylim(0, top * 1.2)
    if threshold is not None:
        axes.axvline(threshold, color=theme.ink, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.annotate(
            f"threshold {threshold:.2f}", (threshold, top * 1.2), xytext=(4, -3), textcoords="offset points",
            va="top", fontsize=8.5, color=theme.ink,
        )  # fmt: skip
    axes.set_xlabel("score (cosine)")
    axes.set_ylabel("share of pairs")


def _draw_roc(
    axes: Axes,
    theme: Theme,
    curves: Mapping[str, Roc],
    points: Mapping[str, list[tuple[float, float, tuple[float, float]]]],
    floor: float,
) -> None:
    lowest = 1.0
    for network, curve in curves.items():
        color = theme.of(network)
        far, tar = admitted(curve, floor)
        axes.step(far, tar, where="post", color=color, linestyle=LINES[network], label=network)
        lowest = min(lowest, tar[0])
        for wanted, measured, (low, high) in points[network]:
            ends = [[max(measured - low, 0)], [max(high - measured, 0)]]
            axes.errorbar([wanted], [measured], yerr=ends, color=color, marker="o", markersize=4, capsize=3)
            lowest = min(lowest, low)
    pad = max((1 - lowest) * 0.06, 0.002)
    axes.set_ylim(max(lowest - pad, -0.02), 1 + pad)
    _far_axis(axes, theme, floor)
    axes.set_ylabel("true accept rate")
    axes.legend(loc="best")


def _draw_det(axes: Axes, theme: Theme, curves: Mapping[str, Roc], floor: float, least: float) -> None:
    for network, curve in curves.items():
        far, tar = admitted(curve, floor)
        seen = 1 - tar >= least * (1 - 1e-9)
        label = network if seen.any() else f"{network}: none rejected falsely"
        missed, style = np.where(seen, 1 - tar, np.nan), LINES[network]
        axes.step(far, missed, where="post", color=theme.of(network), linestyle=style, label=label)
    axes.set_yscale("log")
    axes.set_ylim(least / 2, 1.2)
    rates = np.array([min(floor, least) / 3, 1.0])
    axes.plot(rates, rates, color=theme.faint, linewidth=0.9, linestyle=":", label="equal error")
    _far_axis(axes, theme, floor)
    axes.set_ylabel("false reject rate")
    axes.legend(loc="best")


def _far_axis(axes: Axes, theme: Theme, floor: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(floor / 3, 1.05)
    axes.axvspan(floor / 3, floor, color=theme.faint, alpha=0.16, linewidth=0)
    axes.axvline(floor, color=theme.faint, linewidth=0.9)
    axes.annotate(
        f"not measurable: below 1/{round(1 / floor):,}", (floor, 0.5), xycoords=("data", "axes fraction"),
        xytext=(-4, 0), textcoords="offset points", rotation=90, ha="right", va="center", fontsize=7.5,
        color=theme.faint,
    )  # fmt: skip
    axes.set_xlabel("false accept rate")


def _histogram_alt(title: str, network: str, scores: Scores) -> str:
    return (
        f"Histogram of the {network}'s scores on {title}: genuine pairs around "
        f"{np.median(scores.genuine):.2f}, impostor pairs around {np.median(scores.impostor):.2f}."
    )


def _operating_points(curve: Roc, floor: float) -> str:
    far, tar = curve.far, curve.tar
    points = [10.0**-k for k in (1, 2, 3, 4) if 10.0**-k >= floor * (1 - 1e-9)]
    texts = [f"TAR {tar[far <= wanted * (1 + 1e-9)].max():.4f} at FAR {wanted:g}" for wanted in points]
    return ", ".join(texts) or "too few impostor pairs for an operating point"
