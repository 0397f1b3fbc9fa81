"""Encoded images to uint8 pixels (simplejpeg for JPEG, Pillow for the rest), and uint8 pixels to [-1, 1] and back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from facedistill.errors import DataError

SIZE_PX = 112
MAX_PIXELS = 100_000_000  # a larger picture is a decompression bomb, or nothing to learn faces from
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_JPEG = b"\xff\xd8"
_REASONED = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, zlib.error, struct.error)
_UNREASONED = (AttributeError, ArithmeticError, MemoryError, RuntimeError, AssertionError)
PARSER_ERRORS = (*_REASONED, *_UNREASONED)
"""What Pillow's parsers raise on damaged files and damaged EXIF."""


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels, any shape, as float32 in [-1, 1]: (x - 127.5) / 127.5.

    >>> to_float(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return pixels.to(torch.float32, copy=True).sub_(127.5).div_(127.5)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1], any shape, as the nearest uint8 pixels; values outside are clamped.

    >>> to_uint8(torch.tensor([-1.0, 0.999, 2.0]))
    tensor([  0, 255, 255], dtype=torch.uint8)
    """
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def decode_face(data: bytes, where: str, size_px: int | None = SIZE_PX) -> np.ndarray:
    """Decodes one image to eight-bit RGB, whatever it is stored as.

    Gray becomes three equal channels, sixteen bits lose their lower eight, a palette is looked up, CMYK is
    converted, an alpha channel is dropped (the color below it is kept, as cv2 and Pillow do). EXIF orientation
    is not applied: an aligned crop has none.

    Args:
        data: A JPEG, PNG, WebP or BMP file.
        where: What to call it in a message.
        size_px: Demanded width and height; None for any.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: If it is empty, cut short, damaged, no image, too large to be one, or of another size.
    """
    if not data:
        raise DataError(f"{where} has zero bytes; replace or remove it")
    pixels = _decode_jpeg(data, where, size_px) if data[:2] == _JPEG else None
    return _decode_other(data, where, size_px) if pixels is None else pixels


def look_at(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int, str]:
    """Width, height and Pillow's color mode of one image, from its header alone.

    Raises:
        DataError: If it is empty, no image, has more than `max_pixels`, or its header is damaged.
    """
    if not data:
        raise DataError(f"{where} has zero bytes; replace or remove it")
    _demand_pixels(*webp_size(data), where, max_pixels)
    with image_errors(where), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _demand_pixels(*image.size, where, max_pixels)
        return image.width, image.height, image.mode


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image in eight-bit RGB; sixteen-bit gray, which Pillow would clip, loses its lower eight bits."""
    if image.mode.startswith("I"):
        gray = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    plain = image.convert("RGBA") if "transparency" in image.info else image
    return plain.convert("RGB")


def _decode_jpeg(data: bytes, where: str, size_px: int | None) -> np.ndarray | None:
    """The pixels; None for the color spaces that libjpeg-turbo does not turn into RGB."""
    try:
        high, wide, space, _ = simplejpeg.decode_jpeg_header(data)
        _demand_size(wide, high, where, size_px)
        if space in ("CMYK", "YCCK"):
            return None
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        raise _broken(where, _reason(error)) from error
    return pixels


def _decode_other(data: bytes, where: str, size_px: int | None) -> np.ndarray:
    _demand_pixels(*webp_size(data), where, MAX_PIXELS)
    with image_errors(where), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _demand_size(*image.size, where, size_px)
        return np.array(to_rgb(image))


@contextmanager
def image_errors(where: str) -> Iterator[None]:
    """Whatever Pillow's parsers let through becomes one sentence."""
    try:
        yield
    except DataError:
        raise
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{where} is no JPEG, PNG, WebP or BMP image; replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{where} unpacks to more than {MAX_PIXELS // 1_000_000} million pixels; replace or remove it"
        ) from error
    except _REASONED as error:
        raise _broken(where, _reason(error)) from error
    except _UNREASONED as error:
        raise _broken(where, type(error).__name__) from error


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, from its first 32 bytes; zeros for other files.

    Pillow allocates 8 bytes per pixel before it tells the size.
    """
    kind = data[12:16] if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def _demand_pixels(wide: int, high: int, where: str, max_pixels: int) -> None:
    if wide * high > max_pixels:
        raise DataError(
            f"{where} unpacks to {wide}x{high} pixels, more than {max_pixels // 1_000_000} million; "
            "replace or remove it"
        )


def _demand_size(wide: int, high: int, where: str, size_px: int | None) -> None:
    _demand_pixels(wide, high, where, MAX_PIXELS)
    if size_px is not None and (wide, high) != (size_px, size_px):
        raise DataError(
            f"{where} is {wide}x{high} pixels, and faces are {size_px}x{size_px}; "
            "run `facedistill data align` on the photographs, or on the whole set after "
            "`facedistill data convert` to a folder"
        )


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def _broken(where: str, reason: str) -> DataError:
    return DataError(f"{where} is cut short or damaged ({reason}); replace or remove it")
