"""Refuses a set of wrongly sized faces before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError
from facedistill.images import SIZE_PX, look_at

_LOOKED_AT = 256


def demand_one_size(faces: FaceSet, path: str | Path) -> None:
    """Reads the headers of 256 images spread over the set.

    Args:
        faces: The set.
        path: What to call it in a message.

    Raises:
        DataError: If any of them is not 112 x 112 pixels or cannot be read; with counts.
    """
    wrong: Counter[str] = Counter()
    first = ""
    looked_at = np.unique(np.linspace(0, len(faces) - 1, min(len(faces), _LOOKED_AT)).astype(np.int64))
    for index in looked_at.tolist():
        try:
            wide, high, _ = look_at(faces.encoded(index), faces.where(index))
            kind = "" if wide == high == SIZE_PX else f"{wide}x{high}"
        except DataError:
            kind = "unreadable"
        if kind:
            wrong[kind] += 1
            first = first or f"{faces.where(index)} ({kind})"
    if wrong:
        kinds = ", ".join(f"{count} {kind}" for kind, count in wrong.most_common(4))
        raise DataError(
            f"{path}: {wrong.total()} of {len(looked_at)} images looked at are no faces of {SIZE_PX}x{SIZE_PX} pixels "
            f"({kinds}), the first {first}; list all with `facedistill data verify`, replace them or align the set "
            "with `facedistill data align`"
        )
