"""Reads photographs: upright, in eight-bit RGB, and no larger than a picture may be."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from PIL import ExifTags, Image

from facedistill.images import MAX_PIXELS, PARSER_ERRORS, to_rgb, webp_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow may read as a photograph; some of its other readers start programs."""
_TURNS = dict(enumerate(
    (
        Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
    ),
    start=2,
))  # fmt: skip
"""By EXIF orientation."""
_ORIENTED = (
    "exif",
    "Raw profile type exif",
    "xmp",
    "XML:com.adobe.xmp",
)  # entries of `Image.info` that tell it


def read_photograph(path: Path) -> Image.Image | str:
    """A photograph, turned as its EXIF says, in RGB; or what is wrong with it in a few words."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if not head:
            return "zero bytes"
        if math.prod(webp_size(head)) > MAX_PIXELS:
            return "too many pixels"
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                return upright(opened)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "too many pixels"
    except FileNotFoundError:
        return "does not exist"
    except PARSER_ERRORS:
        return "not a readable image"


def upright(image: Image.Image) -> Image.Image:
    """An opened photograph, turned as its EXIF says, in eight-bit RGB; damaged EXIF turns nothing.

    `ImageOps.exif_transpose` rewrites the EXIF and fails if any of its values is invalid.
    """
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises errors of many kinds; the picture itself is sound
        turn = None
    if turn is not None:
        image = image.transpose(turn)
        image.info = {name: value for name, value in image.info.items() if name not in _ORIENTED}
    return to_rgb(image)
