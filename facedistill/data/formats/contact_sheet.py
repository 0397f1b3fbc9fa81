"""A picture of some faces of a set, to see at a glance whether they are what they should be."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError
from facedistill.images import decode_face

_ROWS, _COLUMNS = 8, 10
_CELL_PX = 112
_GAP_PX = 4
_NAME_PX = 14
_PAPER = (255, 255, 255)
_INK = (40, 40, 40)
_DAMAGED = (200, 60, 60)


def draw_sheet(faces: FaceSet) -> Image.Image:
    """Draws eight identities spread over the set, each with its first ten images and its name above.

    Of an unlabeled set, images spread over the whole are drawn. An image that cannot be decoded is crossed out.
    """
    chosen = _rows(faces)
    name_px = _NAME_PX if faces.labels is not None else 0
    step = _CELL_PX + _GAP_PX
    size = (_COLUMNS * step + _GAP_PX, len(chosen) * (step + name_px) + _GAP_PX)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (name, indices) in enumerate(chosen):
        top = _GAP_PX + row * (step + name_px)
        if name_px:
            pen.text((_GAP_PX, top - 1), name.encode("latin-1", "replace").decode("latin-1"), fill=_INK)
        for column, index in enumerate(indices):
            _draw(sheet, pen, faces, int(index), _GAP_PX + column * step, top + name_px)
    return sheet


def _rows(faces: FaceSet) -> list[tuple[str, np.ndarray]]:
    """A name and indices (n,) for each row."""
    if faces.labels is None:
        spread = np.unique(np.linspace(0, len(faces) - 1, _ROWS * _COLUMNS).astype(np.int64))
        return [("", spread[start : start + _COLUMNS]) for start in range(0, len(spread), _COLUMNS)]
    shown = np.unique(np.linspace(0, len(faces.identities) - 1, _ROWS).astype(np.int64))
    return [
        (faces.identities[label], np.flatnonzero(faces.labels == label)[:_COLUMNS])
        for label in shown.tolist()
    ]


def _draw(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, faces: FaceSet, index: int, left: int, top: int
) -> None:
    try:
        face = Image.fromarray(decode_face(faces.encoded(index), faces.where(index), None))
    except DataError:
        right, bottom = left + _CELL_PX - 1, top + _CELL_PX - 1
        pen.rectangle((left, top, right, bottom), outline=_DAMAGED)
        pen.line((left, top, right, bottom), fill=_DAMAGED)
        pen.line((left, bottom, right, top), fill=_DAMAGED)
        return
    face.thumbnail((_CELL_PX, _CELL_PX))
    sheet.paste(face, (left, top))
