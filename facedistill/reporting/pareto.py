"""A picture of runs: accuracy against latency, and those that no other run beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.errors import UserError
from facedistill.evaluation.protocols.titles import protocol_title
from facedistill.reporting.cost_record import CostRow, common_condition, row_of
from facedistill.reporting.run.summary import Accuracy, summarize
from facedistill.reporting.style import DPI, LIGHT, plain
from facedistill.system.files import atomic_path


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        label: Its id.
        accuracy: Of the student on the protocol.
        cost: The row whose latency is shown.
        is_common: Whether it was measured under the condition of the picture.
    """

    label: str
    accuracy: Accuracy
    cost: CostRow
    is_common: bool


def write_pareto(folders: Sequence[Path], protocol: str, out: Path) -> str:
    """Draws the student of each run that has an accuracy and a latency.

    Latencies of different formats, processors or numbers of threads cannot be compared: the condition that most runs
    share is drawn filled, and only such runs are on the line of those that no other beats. The others are hollow.

    Args:
        folders: Of the runs.
        protocol: Whose accuracy is shown.
        out: The picture, .png or .svg.

    Returns:
        A sentence that names the file and how many runs it shows.

    Raises:
        UserError: If no run has both figures, or the file cannot be written.
    """
    runs = [summarize(folder) for folder in folders]
    condition = common_condition(row for run in runs if protocol in run.accuracy for row in run.costs)
    points = [
        Point(run.id, run.accuracy[protocol], row, row.condition == condition)
        for run in runs
        if protocol in run.accuracy and (row := row_of(run.costs, condition))
    ]
    if not points:
        measured = sorted({name for run in runs for name in run.accuracy})
        raise UserError(
            f"--picture {out}: no run has an accuracy on {protocol} and a latency; choose --protocol of "
            f"{', '.join(measured) or 'what facedistill evaluate measures'}"
        )
    _draw(points, protocol, out)
    others = sum(not point.is_common for point in points)
    note = f"; {others} measured under other conditions are hollow" if others else ""
    return f"{out}: {len(points)} of {len(runs)} runs, {protocol_title(protocol)}{note}"


def front(points: Sequence[Point]) -> list[Point]:
    """The points measured alike that no other one beats in accuracy and latency, by latency."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost.one_ms, -one.accuracy.value)):
        if point.is_common and (not best or point.accuracy.value > best[-1].accuracy.value):
            best.append(point)
    return best


def _draw(points: Sequence[Point], protocol: str, out: Path) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = front(points)
    axes.plot(
        [one.cost.one_ms for one in best], [100 * one.accuracy.value for one in best],
        color=LIGHT.student, linewidth=1.2, alpha=0.5, drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    first, last = (end(one.cost.one_ms for one in points) for end in (min, max))
    named: set[str] = set()
    for point in points:
        x, y = point.cost.one_ms, 100 * point.accuracy.value
        low, high = point.accuracy.interval or (point.accuracy.value, point.accuracy.value)
        color = LIGHT.student if point.is_common else LIGHT.teacher
        axes.plot([x, x], [100 * low, 100 * high], color=color, linewidth=1.5, alpha=0.35, zorder=1)
        inside = color if point.is_common else LIGHT.ground
        name = point.cost.measured_on if point.cost.measured_on not in named else None
        named.add(point.cost.measured_on)
        axes.plot(
            x, y, "o", color=color, markerfacecolor=inside, markersize=6, zorder=2, linestyle="", label=name
        )
        above = point in best and x > first + (last - first) / 3  # nothing is above the line there
        axes.annotate(
            point.label, (x, y), xytext=(-6, 5) if above else (6, -11), textcoords="offset points", fontsize=8,
            ha="right" if above else "left", color=LIGHT.ink if point in best else LIGHT.faint,
        )  # fmt: skip
    axes.set_xlabel("ms a face, batch 1, median")
    axes.set_ylabel(f"{protocol_title(protocol)} accuracy, %")
    axes.set_title("Students; vertical lines are 95 % intervals", fontsize=9, color=LIGHT.faint, loc="left")
    axes.legend(loc="lower right", fontsize=8, title="measured on", title_fontsize=8)
    axes.margins(x=0.12, y=0.12)
    plain(axes)
    metadata = {"Date": None} if out.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "facedistill"}), atomic_path(out) as path:
        figure.savefig(path, dpi=DPI, format=out.suffix[1:], metadata=metadata)
