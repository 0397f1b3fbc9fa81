"""Whatever a caller has of aligned faces, as the framework's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facedistill.api.photographs import Picture, name_of, open_photograph
from facedistill.errors import DataError
from facedistill.export.embed import face_tensor, read_face
from facedistill.images import image_errors, to_float, to_rgb

Pictures: TypeAlias = Picture | Tensor | Sequence[Picture]
"""One image, a sequence of images, an (N, H, W, 3) uint8 array, or an (N, 3, H, W) tensor."""

_SLACK = 1e-3  # of resampled faces beyond [-1, 1]


def pictures_of(images: Pictures) -> list[Picture]:
    """One image or several as a list of images; tensors are not among them.

    Raises:
        DataError: If `images` is neither.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return [images] if images.ndim == 3 else list(images)
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        raise DataError(
            f"{type(images).__name__}: is no image and no list of images; give paths, PIL images or arrays"
        )
    return list(images)


def batches(images: Pictures, size_px: int, batch_size: int) -> Iterator[Tensor]:
    """Yields (n, 3, size_px, size_px) RGB in [-1, 1], n at most `batch_size`, in the order of `images`.

    Raises:
        DataError: If an image cannot be read, is not square, or has another layout, type or range.
    """
    if isinstance(images, Tensor):
        yield from (part.float() for part in _checked(images, size_px).split(batch_size))
        return
    pictures = pictures_of(images)
    for start in range(0, len(pictures), batch_size):
        portion = pictures[start : start + batch_size]
        yield torch.stack([face_tensor(aligned_face(one), size_px, name_of(one)) for one in portion])


def aligned_face(picture: Picture) -> Image.Image:
    """An aligned face in eight-bit RGB; EXIF, which tells how to turn a photograph, turns nothing here.

    Raises:
        DataError: If it cannot be read, or is no picture.
    """
    if isinstance(picture, str | Path):
        return read_face(Path(picture))
    if isinstance(picture, Image.Image):
        with image_errors(name_of(picture)):
            return to_rgb(picture)
    return open_photograph(picture)


def _checked(images: Tensor, size_px: int) -> Tensor:
    images = (images[None] if images.ndim == 3 else images).detach().cpu()
    if images.shape[1:] != (3, size_px, size_px):
        raise DataError(
            f"a tensor of shape {tuple(images.shape)}: expected (N, 3, {size_px}, {size_px}) aligned RGB faces"
        )
    if images.dtype == torch.uint8:
        return to_float(images)
    if not images.is_floating_point():
        raise DataError(f"a tensor of {images.dtype}: expected floats in [-1, 1], or uint8 in 0..255")
    if images.numel() and not float(images.abs().max()) <= 1 + _SLACK:
        raise DataError("a float tensor with values outside [-1, 1]: expected (x - 127.5) / 127.5 of 0..255")
    return images
