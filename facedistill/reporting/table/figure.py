"""A picture of a comparison: one dot with its interval per row, best on top."""

from __future__ import annotations

from pathlib import Path

from facedistill.reporting.style import LIGHT, plain
from facedistill.reporting.table.comparison import Comparison, column_title, is_rate


def draw_comparison(comparison: Comparison, metric: str, path: Path) -> bool:
    """Draws one metric of all rows that were measured; says whether there was anything to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    column = comparison.metrics.index(metric)
    factor = 100 if is_rate(metric) else 1
    rows = [(line.figures[column], line.label) for line in comparison.lines]
    drawn = sorted(
        ((f.value, f, label) for f, label in rows if f.value is not None), key=lambda row: round(row[0], 9)
    )
    if not drawn:
        return False
    figure = Figure(figsize=(7.5, 0.9 + 0.28 * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (value, measured, _) in enumerate(drawn):
        low, high = measured.interval or (value, value)
        several = measured.seeds > 1
        axes.plot(
            [factor * low, factor * high], [place, place], color=LIGHT.student, linewidth=2, alpha=0.55,
            linestyle="-" if several else ":",
        )  # fmt: skip
        if several:
            seeds = [factor * one for one in measured.by_seed.values()]
            axes.plot(seeds, [place] * len(seeds), "|", color=LIGHT.student, markersize=9)
        inside = LIGHT.student if several else LIGHT.ground
        axes.plot(factor * value, place, "o", color=LIGHT.student, markerfacecolor=inside, markersize=5)
        if measured.published:
            inside = "none" if measured.published.source.differs else LIGHT.teacher
            axes.plot(
                factor * measured.published.value, place, "D", color=LIGHT.teacher,
                markerfacecolor=inside, markersize=4,
            )  # fmt: skip
    axes.set_yticks(range(len(drawn)), [label for _, _, label in drawn])
    axes.set_xlabel(column_title(metric) + (" (%)" if factor == 100 else ""))
    title = f"{comparison.images:,} images a run; 95 % intervals, of the mean over seeds (strokes: each seed)"
    if any(measured.seeds == 1 for _, measured, _ in drawn):
        title += "\nhollow, dotted: one seed, interval over its pairs"
    if any(measured.published for _, measured, _ in drawn):
        title += "; diamonds: published (hollow: not comparable)"
    # Above the whole figure: long labels leave the axes little width.
    figure.suptitle(title, fontsize=9, color=LIGHT.faint, x=0.01, horizontalalignment="left")
    plain(axes, grid="x", hidden=("top", "right", "left"))
    axes.tick_params(length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return True
