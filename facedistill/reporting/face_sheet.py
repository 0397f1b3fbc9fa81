"""Sheets of aligned faces: lines of equally large images with a caption each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from facedistill.errors import DataError
from facedistill.images import to_uint8
from facedistill.system.files import write_atomically

_GAP_PX, _TITLE_PX = 3, 26
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Line:
    """`images` (n, 3, H, W) in [-1, 1] with a caption of one or more lines on their left."""

    caption: str
    images: Tensor


def draw_face_sheet(title: str, lines: Sequence[Line], *, blocks: int = 1) -> Image.Image:
    """Draws one line of images below the other, in `blocks` next to each other.

    Args:
        title: Above the sheet.
        lines: All images of one size; the longest line decides the width.
        blocks: The lines are split into so many columns.
    """
    height, width = lines[0].images.shape[-2:]
    per_block = -(-len(lines) // blocks)
    title_font, font = (ImageFont.load_default(size=size) for size in (15, 14))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = [measure.multiline_textbbox((0, 0), line.caption, font=font) for line in lines]
    caption_px = 4 * _GAP_PX + round(max(box[2] for box in boxes))
    block_px = caption_px + max(len(line.images) for line in lines) * (width + _GAP_PX)
    size = (blocks * block_px + _GAP_PX, _TITLE_PX + per_block * (height + _GAP_PX) + _GAP_PX)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * _GAP_PX, 5), title, fill=_INK, font=title_font)
    for number, line in enumerate(lines):
        block, row = divmod(number, per_block)
        left, top = block * block_px, _TITLE_PX + row * (height + _GAP_PX)
        pen.multiline_text((left + 2 * _GAP_PX, top + 6), line.caption, fill=_INK, font=font)
        for column, pixels in enumerate(to_uint8(line.images).permute(0, 2, 3, 1).cpu().numpy()):
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            sheet.paste(picture, (left + caption_px + column * (width + _GAP_PX), top))
    return sheet


def picture_kind(path: Path) -> str:
    """Pillow's name of the format that the ending of `path` stands for.

    Raises:
        DataError: If it is neither .png nor .jpg.

    >>> picture_kind(Path("sheet.png"))
    'PNG'
    """
    try:
        return _KINDS[path.suffix.lower()]
    except KeyError:
        raise DataError(f"{path}: a picture is written as .png, .jpg or .jpeg; name it so") from None


def write_picture(path: Path, picture: Image.Image) -> Path:
    """Writes a .png or .jpg.

    Raises:
        DataError: If `path` has another ending.
        UserError: If it cannot be written.
    """
    kind = picture_kind(path)
    return write_atomically(path, lambda file: picture.save(file, format=kind, quality=88))
