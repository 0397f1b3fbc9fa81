"""Plans which part of each level to compute for one exact window of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

MARGIN = 2  # pixels of its own grid that a level's two 3x3 convolutions read beyond their output window


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, [top, bottom) x [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @staticmethod
    def frame(size: int) -> Window:
        """A full square frame."""
        return Window(0, size, 0, size)

    def grown(self, margin: int, size: int) -> Window:
        """The window with `margin` more pixels on each side, within a frame of `size`."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        return Window(top, min(size, self.bottom + margin), left, min(size, self.right + margin))

    def even(self) -> Window:
        """The smallest window around this one whose edges are even: complete 2x2 blocks."""
        return Window(
            self.top // 2 * 2, -(-self.bottom // 2) * 2, self.left // 2 * 2, -(-self.right // 2) * 2
        )

    def halved(self) -> Window:
        """The same place on a grid of half the resolution; edges must be even."""
        return Window(self.top // 2, self.bottom // 2, self.left // 2, self.right // 2)

    def cut(self, x: Tensor, covered: Window) -> Tensor:
        """Cuts this window out of (…, H, W) features that cover the window `covered`."""
        rows = slice(self.top - covered.top, self.bottom - covered.top)
        return x[..., rows, self.left - covered.left : self.right - covered.left]


def plan_windows(wanted: Window, sizes: Sequence[int], shrunk: Sequence[bool]) -> list[Window]:
    """Plans backwards from the last level what each level computes.

    A level that computes on a window is wrong within `MARGIN` of a window edge that is not the frame's edge
    (there it sees zeros instead of its neighbors), so each window is what its successor needs, grown by the
    margin.

    Args:
        wanted: The pixels of the last level's result that must be exact.
        sizes: Grid size of each level, coarsest first.
        shrunk: Whether each level runs on its predecessor's grid.

    Returns:
        One window per level, in that level's pixels.
    """
    windows: list[Window] = []
    for size, stays in zip(reversed(sizes), reversed(shrunk), strict=True):
        window = wanted.grown(MARGIN, size)
        window = window if stays else window.even()
        windows.append(window)
        wanted = window if stays else window.halved()
    return windows[::-1]
