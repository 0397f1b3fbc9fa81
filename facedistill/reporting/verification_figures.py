"""What the scores of a protocol look like: histograms, ROC, DET."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from facedistill.metrics.verification import Roc, roc
from facedistill.reporting.numbers import is_number
from facedistill.reporting.run_files import Scores
from facedistill.reporting.style import LINES, Drawing, Theme
from facedistill.reporting.table import title_of

_BINS = 64


def verification_drawings(
    protocol: str, scores: Mapping[str, Scores], metrics: Mapping[str, Mapping[str, Any]]
) -> list[Drawing]:
    """Figures of one protocol.

    Args:
        protocol: Its key.
        scores: By network, "student" and "teacher"; one may be missing.
        metrics: By network, the protocol's part of results.json.
    """
    if not scores:
        return []
    slug = re.sub(r"[^a-z0-9_-]+", "-", protocol.lower()) or "protocol"
    title = title_of(protocol)
    edges = _edges(scores)
    drawings = [
        Drawing(
            f"{slug}-scores-{network}",
            f"{network.capitalize()} scores",
            _histogram_alt(title, network, one),
            lambda axes, theme, s=one, n=network: _draw_histogram(axes, theme, s, edges, metrics.get(n) or {}),
        )
        for network, one in scores.items()
    ]
    curves = {network: roc(one.genuine, one.impostor) for network, one in scores.items()}
    floor = 1 / min(len(one.impostor) for one in scores.values())
    alt = "; ".join(f"{network} {_operating_points(curve, floor)}" for network, curve in curves.items())
    return [
        *drawings,
        Drawing(f"{slug}-roc", "ROC", f"ROC on {title}: {alt}.", lambda a, t: _draw_roc(a, t, curves, metrics, floor)),
        Drawing(
            f"{slug}-det", "DET", f"DET on {title}: {alt}.", lambda a, t: _draw_det(a, t, curves, scores, floor)
        ),
    ]


def _edges(scores: Mapping[str, Scores]) -> np.ndarray:
    lowest = min(one.score.min() for one in scores.values())
    highest = max(one.score.max() for one in scores.values())
    return np.linspace(lowest, max(highest, lowest + 1e-6), _BINS + 1)


def _draw_histogram(
    axes: Axes, theme: Theme, scores: Scores, edges: np.ndarray, metrics: Mapping[str, Any]
) -> None:
    top = 0.0
    for kind, color, score in (
        ("impostor", theme.impostor, scores.impostor),
        ("genuine", theme.genuine, scores.genuine),
    ):
        share = np.histogram(score, edges)[0] / len(score)
        top = max(top, share.max())
        axes.stairs(share, edges, fill=True, color=color, alpha=0.28)
        axes.stairs(share, edges, color=color, linewidth=1.5)
        axes.annotate(
            kind, (float(np.median(score)), share.max()), xytext=(0, 4), textcoords="offset points", color=color,
            ha="center", fontweight="bold", fontsize=9,
        )  # fmt: skip
    axes.set_ylim(0, top * 1.2)
    threshold = metrics.get("threshold")
    if is_number(threshold):
        axes.axvline(threshold, color=theme.ink, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.annotate(
            f"threshold {threshold:.2f}", (threshold, top * 1.2), xytext=(4, -3), textcoords="offset points",
            va="top", fontsize=8.5, color=theme.ink,
        )  # fmt: skip
    axes.set_xlabel("score (cosine)")
    axes.set_ylabel("share of pairs")


def _draw_roc(
    axes: Axes, theme: Theme, curves: Mapping[str, Roc], metrics: Mapping[str, Mapping[str, Any]], floor: float
) -> None:
    lowest = 1.0
    for network, curve in curves.items():
        far, tar = _measurable(curve, floor)
        lowest = min(lowest, tar[0])
        axes.plot(far, tar, color=theme.of(network), linestyle=LINES[network], label=network)
        for wanted, entry in ((metrics.get(network) or {}).get("tar") or {}).items():
            if isinstance(entry, Mapping) and is_number(entry.get("tar")):
                _mark_tar(axes, theme.of(network), float(wanted), entry)
                lowest = min(lowest, (entry.get("ci") or [1.0])[0])
    pad = max((1 - lowest) * 0.06, 0.002)
    axes.set_ylim(max(lowest - pad, -0.02), 1 + pad)
    _far_axis(axes, theme, floor)
    axes.set_ylabel("true accept rate")
    axes.legend(loc="lower right")


def _mark_tar(axes: Axes, color: str, far: float, entry: Mapping[str, Any]) -> None:
    interval = entry.get("ci")
    error = [[entry["tar"] - interval[0]], [interval[1] - entry["tar"]]] if interval else None
    axes.errorbar([far], [entry["tar"]], yerr=error, color=color, marker="o", markersize=4, capsize=3, linewidth=1.3)


def _draw_det(
    axes: Axes, theme: Theme, curves: Mapping[str, Roc], scores: Mapping[str, Scores], floor: float
) -> None:
    least = 1 / min(len(one.genuine) for one in scores.values())
    for network, curve in curves.items():
        far, tar = _measurable(curve, floor)
        seen = 1 - tar >= least * (1 - 1e-9)
        axes.plot(far[seen], 1 - tar[seen], color=theme.of(network), linestyle=LINES[network], label=network)
    axes.set_yscale("log")
    axes.set_ylim(least / 2, 1.2)
    rates = np.array([min(floor, least) / 3, 1.0])
    axes.plot(rates, rates, color=theme.faint, linewidth=0.9, linestyle=":", label="equal error")
    _far_axis(axes, theme, floor)
    axes.set_ylabel("false reject rate")
    axes.legend(loc="upper right")


def _measurable(curve: Roc, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates from the FAR `floor` on; of the points at the first FAR the best, which is what it stands for."""
    far, tar = curve.far.numpy(), curve.tar.numpy()
    first = int(np.searchsorted(far, floor * (1 - 1e-9)))
    first = int(np.searchsorted(far, far[first], side="right")) - 1
    return far[first:], tar[first:]


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
        f"Histogram of the {network}'s scores on {title}: genuine pairs around {np.median(scores.genuine):.2f}, "
        f"impostor pairs around {np.median(scores.impostor):.2f}."
    )


def _operating_points(curve: Roc, floor: float) -> str:
    far, tar = curve.far.numpy(), curve.tar.numpy()
    points = [10.0**-k for k in (1, 2, 3, 4) if 10.0**-k >= floor * (1 - 1e-9)]
    told = [f"TAR {tar[far <= wanted * (1 + 1e-9)].max():.4f} at FAR {wanted:g}" for wanted in points]
    return ", ".join(told) or "too few impostor pairs for an operating point"
