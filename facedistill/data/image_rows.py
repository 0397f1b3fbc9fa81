"""Rows of faces as one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facedistill.system.files import write_atomically


def write_rows(path: Path, rows: Sequence[Sequence[np.ndarray]]) -> Path:
    """Writes a PNG of rows of (H, W, 3) uint8 faces of one size; short rows end in black.

    Raises:
        UserError: If it cannot be written.
    """
    high, wide, _ = rows[0][0].shape
    canvas = np.zeros((high * len(rows), wide * max(map(len, rows)), 3), dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, face in enumerate(row):
            canvas[y * high : (y + 1) * high, x * wide : (x + 1) * wide] = face
    write_atomically(path, lambda partial: Image.fromarray(canvas).save(partial, format="PNG"))
    return path
