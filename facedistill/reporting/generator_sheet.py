"""A sheet of rendered faces: as rendered, cropped with the five points of the template, and resampled in growing steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facedistill.images import to_uint8
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE

_CELL_PX, _GAP_PX, _CAPTION_PX = 224, 6, 26
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_POINT, _RIM = (0, 230, 90), (0, 0, 0)


@dataclass(frozen=True)
class Row:
    """One face: `native` (3, R, R), its `crop` (3, 112, 112), and variations of that size; all in [-1, 1]."""

    native: Tensor
    crop: Tensor
    variations: Sequence[Tensor]


def draw_sheet(captions: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """Draws one line per face and one captioned column per kind of image.

    Args:
        captions: Of native, crop and each variation.
        rows: The faces.
    """
    columns = 2 + len(rows[0].variations)
    step = _CELL_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * step + _GAP_PX, _CAPTION_PX + len(rows) * step), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for column, caption in enumerate(captions):
        pen.text((_GAP_PX + column * step, 6), caption, fill=_INK, font=font)
    for line, row in enumerate(rows):
        top = _CAPTION_PX + line * step
        for column, image in enumerate((row.native, row.crop, *row.variations)):
            left = _GAP_PX + column * step
            sheet.paste(_picture(image), (left, top))
            if column == 1:
                _mark(pen, left, top)
    return sheet


def _picture(image: Tensor) -> Image.Image:
    values = to_uint8(image).permute(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(values.numpy()))
    return picture.resize((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)


def _mark(pen: ImageDraw.ImageDraw, left: int, top: int) -> None:
    """The template's five points over a crop; points are at pixel centers."""
    for x, y in ARCFACE_TEMPLATE:
        center = left + (float(x) + 0.5) * _CELL_PX / 112, top + (float(y) + 0.5) * _CELL_PX / 112
        for radius, color in ((4, _RIM), (3, _POINT)):
            box = [(part - radius, part + radius) for part in center]
            pen.ellipse((box[0][0], box[1][0], box[0][1], box[1][1]), fill=color)
