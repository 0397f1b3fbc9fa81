"""Reads photographs: upright, in eight-bit RGB, and no larger than a picture may be."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from facedistill.images import MAX_PIXELS, PARSER_ERRORS, to_rgb, webp_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow may read as a photograph; some of its other readers start programs."""


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
    """An opened photograph, turned as its EXIF says, in eight-bit RGB."""
    return to_rgb(ImageOps.exif_transpose(image))
