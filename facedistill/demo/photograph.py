"""What the page sends, within limits: a photograph to its faces, two aligned faces to scores."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from facedistill.api.photographs import find_faces
from facedistill.api.student import Student
from facedistill.data.alignment.photograph import upright
from facedistill.errors import DataError
from facedistill.images import FORMATS, decode_face, image_errors, look_at
from facedistill.reporting.pages import jpeg_uri, png_uri

MOST_BYTES = 16 << 20
MOST_PIXELS = 32_000_000
MOST_PAIR_BYTES = 256 << 10
"""Of the request that compares two aligned faces."""
_MOST_FACES = 12
_PREVIEW_PX = 720
_WHERE = "This photograph"
_PNG_URI = "data:image/png;base64,"


def faces_in(data: bytes) -> dict[str, Any]:
    """Finds the faces of a photograph.

    Args:
        data: A JPEG, PNG, WebP or BMP file.

    Returns:
        `preview`, the photograph as the detector sees it, upright and small, as a data URI; `found`, the number of
        faces; `faces`, the 12 largest: `box`, left, top, right and bottom as fractions of the photograph, `score` of the
        detector, and `crop`, the aligned face as a data URI (PNG).

    Raises:
        DataError: If it is damaged, no image, or has too many pixels.
    """
    look_at(data, _WHERE, MOST_PIXELS)
    with image_errors(_WHERE), Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image = upright(opened)
    faces = find_faces(image)
    sides = 2 * image.size
    image.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
    return {
        "preview": jpeg_uri(image, quality=85),
        "found": len(faces),
        "faces": [
            {
                "box": [value / side for value, side in zip(face.box, sides, strict=True)],
                "score": face.score,
                "crop": _png(face.crop),
            }
            for face in faces[:_MOST_FACES]
        ],
    }


def scores_of(data: bytes, networks: Mapping[str, Student]) -> dict[str, float]:
    """Compares two aligned faces.

    Args:
        data: JSON with `a` and `b`, each a `crop` of `faces_in`.
        networks: By name.

    Returns:
        The cosine by name of the network.

    Raises:
        DataError: If it is anything else.
    """
    try:
        pair = json.loads(data)
        files = [_bytes_of(pair[name]) for name in ("a", "b")]
    except (ValueError, TypeError, LookupError, RecursionError, binascii.Error) as error:
        raise DataError("The request is not two aligned faces; load the page again") from error
    faces = [decode_face(file, "The aligned face") for file in files]
    rows = {name: network.embed(faces) for name, network in networks.items()}
    return {name: float(first @ second) for name, (first, second) in rows.items()}


def _bytes_of(uri: Any) -> bytes:
    if not isinstance(uri, str) or not uri.startswith(_PNG_URI):
        raise ValueError
    return base64.b64decode(uri.removeprefix(_PNG_URI), validate=True)


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return png_uri(file.getvalue())
