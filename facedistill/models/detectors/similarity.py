"""From five landmarks to an aligned face: the similarity of Umeyama (1991) and an antialiased warp.

Coordinates are pixels, (x, y), x to the right and y down, (0, 0) at the *center* of the first pixel.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.images import SIZE_PX

Points = NDArray[np.float64]

ARCFACE_TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) eyes, nose's tip and mouth's corners in an aligned 112 x 112 face; the image's left first."""


def fit_similarity(source: Points, target: Points) -> Points:
    """The rotation, uniform scale and translation that map `source` to `target` with the least squared error.

    Never mirrors (Umeyama 1991, equations 39 to 43).

    Args:
        source: (M, 2) points, M >= 2, not all the same.
        target: (M, 2) where they should go.

    Returns:
        (2, 3) matrix [scale * R | t]: target = matrix @ (x, y, 1).

    Raises:
        ValueError: If the source points coincide, so that no scale exists.
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    centered = source - mean_source
    variance = float((centered**2).sum(1).mean())
    if not variance > 0:
        raise ValueError("the source points coincide; no similarity is defined")
    covariance = (target - mean_target).T @ centered / len(source)  # (2, 2)
    left, singular, right = np.linalg.svd(covariance)
    sign = np.array([1.0, math.copysign(1.0, np.linalg.det(left) * np.linalg.det(right))])
    linear = (left * sign) @ right * ((singular * sign).sum() / variance)
    return np.hstack([linear, (mean_target - linear @ mean_source)[:, None]])


def warp(image: Image.Image, matrix: Points) -> Image.Image:
    """Warps an image by a similarity to 112 x 112; pixels outside the photograph are black.

    A shrinking similarity first resizes the image with a filter as wide as the shrinkage, which
    avoids aliasing; rotation and shift are bilinear.

    Args:
        image: RGB photograph of any size.
        matrix: (2, 3) from image pixels to output pixels.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    scale = math.sqrt(abs(float(np.linalg.det(linear))))
    ratio = np.ones(2)  # x, y of the resized image over the image
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        ratio = np.array([size[0] / image.width, size[1] / image.height])
        image = image.resize(size, Image.Resampling.BILINEAR)
    # Pillow counts from the first pixel's corner and wants output -> input.
    inverse = np.linalg.inv(linear)
    back = np.hstack([inverse, (0.5 - inverse @ (shift + 0.5))[:, None]]) * ratio[:, None]
    return image.transform(
        (SIZE_PX, SIZE_PX), Image.Transform.AFFINE, tuple(back.ravel()), Image.Resampling.BILINEAR
    )


def align_face(image: Image.Image, landmarks: Points) -> Image.Image:
    """The 112 x 112 face whose landmarks (5, 2), in pixels of `image`, are at the ArcFace template."""
    return warp(image, fit_similarity(np.asarray(landmarks, dtype=np.float64), ARCFACE_TEMPLATE))
