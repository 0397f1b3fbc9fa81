"""How figures look: one palette that color-blind readers can tell apart, on light and on dark ground."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DPI = 200
LINES = {"student": "-", "teacher": "--"}


@dataclass(frozen=True)
class Theme:
    """Colors of a figure; student, teacher, genuine and impostor after Okabe and Ito."""

    name: str
    ground: str
    ink: str
    faint: str
    grid: str
    student: str
    teacher: str
    genuine: str
    impostor: str

    def of(self, network: str) -> str:
        """Color of "student" or "teacher"."""
        return self.student if network == "student" else self.teacher


LIGHT = Theme("light", "#ffffff", "#1c2430", "#5d6878", "#e3e7ed", "#0072b2", "#c85a00", "#00865f", "#b24c86")
DARK = Theme("dark", "#171c24", "#e6eaf0", "#9aa5b4", "#2b333f", "#56b4e9", "#f0a23c", "#2fc79a", "#e08bbd")


@dataclass(frozen=True)
class Drawing:
    """One figure, not yet drawn.

    Attributes:
        name: File name without its ending.
        title: What it shows, in a few words.
        alt: What it shows, in a sentence with its figures, for readers who cannot see it.
        draw: Draws it.
        size_in: Width and height in inches; small, so that its text stays readable on a phone.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[Axes, Theme], None]
    size_in: tuple[float, float] = (4.4, 3.0)

    def png(self, theme: Theme) -> bytes:
        """Draws the figure in `theme` as a PNG."""
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with mpl.rc_context(_settings(theme)):
            figure = Figure(figsize=self.size_in, layout="constrained")
            FigureCanvasAgg(figure)
            self.draw(figure.add_subplot(), theme)
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=DPI)
        return file.getvalue()


def plain(
    axes: Axes, *, grid: Literal["both", "x"] = "both", hidden: Sequence[str] = ("top", "right")
) -> None:
    """A grid behind what is drawn, and no line at the sides that are hidden."""
    axes.grid(axis=grid, color=LIGHT.grid)
    axes.set_axisbelow(True)
    for side in hidden:
        axes.spines[side].set_visible(False)


def _settings(theme: Theme) -> dict[Any, Any]:
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "figure.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.faint,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "text.color": theme.ink,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "lines.linewidth": 1.9,
        "lines.solid_capstyle": "round",
        "legend.frameon": True,
        "legend.framealpha": 0.85,
        "legend.facecolor": theme.ground,
        "legend.edgecolor": theme.ground,
        "legend.fontsize": 9,
    }
