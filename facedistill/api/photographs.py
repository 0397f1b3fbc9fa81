"""From a photograph to aligned faces: `align` and `find_faces`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from PIL import Image

from facedistill.data.alignment.choose_face import Detector, checked_faces
from facedistill.data.alignment.photograph import read_photograph, upright
from facedistill.errors import DataError, NoFaceError
from facedistill.images import MAX_PIXELS, image_errors
from facedistill.models.detectors.similarity import align_face

if TYPE_CHECKING:
    from facedistill.models.detectors.scrfd import Scrfd

Picture: TypeAlias = str | Path | Image.Image | np.ndarray
"""One image: the path of a file, a PIL image, or an (H, W, 3) uint8 RGB array."""

Chosen: TypeAlias = Literal["largest", "all"]
"""Which of several faces in a photograph."""


@dataclass(frozen=True)
class Face:
    """A face that was found in a photograph.

    Attributes:
        crop: Aligned to the ArcFace template, 112 x 112 RGB.
        box: Left, top, right and bottom in pixels of the upright photograph.
        score: Of the detector, [0, 1].
        photograph: What the photograph is called in messages.
    """

    crop: Image.Image = field(repr=False)
    box: tuple[float, float, float, float]
    score: float
    photograph: str = ""


def find_faces(image: Picture, detector: Detector | None = None) -> list[Face]:
    """Finds and aligns every face of a photograph.

    A file is turned as its EXIF says. SCRFD looks at 320 and 640 px, and in large photographs at up to 2560 px.

    Args:
        image: A photograph of any size.
        detector: Another detector than SCRFD-500M, which is downloaded at first use.

    Returns:
        The faces, the largest first; empty if there is none.

    Raises:
        DataError: If the file is missing, damaged, no image, or has too many pixels.
    """
    return _faces(image, detector, every=True)


def align(image: Picture, detector: Detector | None = None) -> Image.Image:
    """The largest face of a photograph, aligned to the ArcFace template: a 112 x 112 RGB image.

    Raises:
        NoFaceError: If the photograph shows no face.
        DataError: As `find_faces`.
    """
    return faces_of(image, detector)[0].crop


def faces_of(image: Picture, detector: Detector | None = None, every: bool = False) -> list[Face]:
    """At least one face, the largest first.

    Args:
        image: A photograph of any size.
        detector: See `find_faces`.
        every: Whether small faces next to a large one are searched for too; `facedistill align` does not.

    Raises:
        NoFaceError: If there is none.
        DataError: As `find_faces`.
    """
    faces = _faces(image, detector, every)
    if not faces:
        raise NoFaceError(
            f"{name_of(image)} shows no face that can be found; give a photograph in which the face is clearly visible"
        )
    return faces


def _faces(image: Picture, detector: Detector | None, every: bool) -> list[Face]:
    photograph, name = open_photograph(image), name_of(image)
    detector = detector or default_detector()
    if isinstance(detector, str | type):
        raise DataError(
            f"detector={detector!r}: expected an object with find(photograph), such as a Detector"
        )
    find = getattr(detector, "find_all", detector.find) if every else detector.find
    boxes, scores, landmarks = checked_faces(detector, find(photograph))
    faces = []
    for index in np.argsort(-(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1), kind="stable"):
        try:
            crop = align_face(photograph, landmarks[index])
        except (ValueError, np.linalg.LinAlgError):  # landmarks in one place, or not finite
            continue
        left, top, right, bottom = map(float, boxes[index])
        faces.append(Face(crop, (left, top, right, bottom), float(scores[index]), name))
    return faces


def open_photograph(image: Picture) -> Image.Image:
    """The upright photograph in eight-bit RGB.

    Raises:
        DataError: If it is missing, damaged, no image, or has too many pixels.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(
                f"an array of {image.dtype} and shape {image.shape}: expected (H, W, 3) uint8 RGB"
            )
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{name_of(image)} has more than {MAX_PIXELS // 1_000_000} million pixels")
        with image_errors(name_of(image)):
            return upright(image)
    if not isinstance(image, str | Path):
        raise DataError(
            f"{type(image).__name__}: is no photograph; give a path, a PIL image, or an (H, W, 3) uint8 RGB array"
        )
    read = read_photograph(Path(image))
    if isinstance(read, str):
        raise DataError(f"{image}: {read}; give a JPEG, PNG, WebP, BMP, TIFF or GIF photograph")
    return read


def name_of(image: Picture) -> str:
    """What a message calls the image."""
    if isinstance(image, str | Path):
        return str(image)
    if isinstance(image, Image.Image):
        return str(getattr(image, "filename", "") or f"a {image.width}x{image.height} image")
    return f"an array of shape {getattr(image, 'shape', ())}"


@lru_cache(maxsize=1)
def default_detector() -> Scrfd:
    """SCRFD-500M, downloaded at first use."""
    from facedistill.assets import obtain
    from facedistill.models.detectors.scrfd import Scrfd

    return Scrfd(obtain("scrfd_500m"), num_threads=0)
