"""Learning curves over images seen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from facedistill.reporting.numbers import short
from facedistill.reporting.run.files import Series
from facedistill.reporting.run.reduced import smoothed
from facedistill.reporting.style import Drawing, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_drawings(curves: Mapping[str, Series]) -> list[Drawing]:
    """Figures of what was logged: loss, agreement with the teacher, accuracy, learning rate."""
    drawings = []
    loss, mse = ["train/loss"], ["train/mse", "val/mse"]
    if _is_mse(curves):
        loss, mse = ["train/loss", "val/mse"], []
    for name, title, keys, draw in (
        ("learning-loss", "Loss", loss, _draw_loss),
        ("learning-mse", "MSE of the embeddings", mse, partial(_draw_loss, quantity="MSE")),
        ("learning-cosine", "Cosine of student and teacher", ["train/cosine", "val/cosine"], _draw_cosine),
        ("learning-accuracy", "Accuracy on validation pairs", ["val/accuracy"], _draw_accuracy),
        ("learning-rate", "Learning rate", ["lr"], _draw_rate),
    ):
        logged = {key: curves[key] for key in keys if key in curves}
        if logged:
            summary = "; ".join(_summary(key, series) for key, series in logged.items())
            alt = f"{title} over images seen: {summary}."
            drawings.append(Drawing(name, title, alt, partial(draw, series=logged)))
    return drawings


def _is_mse(curves: Mapping[str, Series]) -> bool:
    """Whether the loss is the MSE of the embeddings, so that both have one axis."""
    loss, mse = curves.get("train/loss"), curves.get("train/mse")
    if not loss or not mse or len(loss.value) != len(mse.value):
        return False
    return np.allclose(loss.value, mse.value, rtol=1e-4)


def _summary(key: str, series: Series) -> str:
    first, last = series.value[0], series.value[-1]
    return f"{key} from {first:.4g} to {last:.4g} after {short(series.images_seen[-1])} images"


def _draw_loss(axes: Axes, theme: Theme, series: Mapping[str, Series], quantity: str = "loss") -> None:
    for key, one in series.items():
        _draw_line(axes, one, theme.student if key.startswith("train") else theme.teacher, key)
    values = np.concatenate([smoothed(one.value) for one in series.values()])
    if values.min() > 0 and values.max() / values.min() > 10:
        axes.set_yscale("log")
    elif values.min() >= 0:
        axes.set_ylim(bottom=0)
    _label_axes(axes, quantity, len(series))


def _draw_cosine(axes: Axes, theme: Theme, series: Mapping[str, Series]) -> None:
    for key, one in series.items():
        _draw_line(axes, one, theme.student if key.startswith("train") else theme.teacher, key)
    lowest = min(one.value.min() for one in series.values())
    axes.set_ylim(min(0.0, lowest - 0.02), 1.0)
    _label_axes(axes, "cosine", len(series))


def _draw_accuracy(axes: Axes, theme: Theme, series: Mapping[str, Series]) -> None:
    one = series["val/accuracy"]
    axes.plot(one.images_seen, 100 * one.value, color=theme.student, marker="o", markersize=4)
    axes.set_ylim(min(50.0, 100 * one.value.min()), 100)
    _label_axes(axes, "accuracy, %", 1)


def _draw_rate(axes: Axes, theme: Theme, series: Mapping[str, Series]) -> None:
    one = series["lr"]
    axes.plot(one.images_seen, one.value, color=theme.student)
    if one.value.min() > 0 and one.value.max() / one.value.min() > 100:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, one.value.max() * 1.08 or 1)
    _label_axes(axes, "learning rate", 1)


def _draw_line(axes: Axes, one: Series, color: str, label: str) -> None:
    if label.startswith("val") or len(one.value) < 60:
        marker = "o" if len(one.value) <= 40 else None
        axes.plot(one.images_seen, one.value, color=color, label=label, marker=marker, markersize=4)
        return
    axes.plot(one.images_seen, one.value, color=color, alpha=0.22, linewidth=0.8)
    axes.plot(one.images_seen, smoothed(one.value), color=color, label=label)


def _label_axes(axes: Axes, quantity: str, lines: int) -> None:
    axes.set_xlabel("images seen")
    axes.set_ylabel(quantity)
    axes.set_xlim(left=0)
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda seen, _: short(seen).replace(" ", "") if seen else "0")
    )
    if lines > 1 or quantity in ("loss", "MSE"):
        axes.legend(loc="best")
