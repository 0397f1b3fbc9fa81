"""A finite set of aligned faces on disk, whatever the format."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from facedistill.errors import DataError
from facedistill.images import SIZE_PX, decode_face


class FaceSet(Protocol):
    """Encoded faces with random access; opening one reads an index, never the images.

    Implementations pickle (worker processes open the files again) and raise `DataError` with one sentence for
    any mistake in a user's files. They may add `damage`, a list of messages on what was left out, and `warnings()`, which
    yields messages for `facedistill data info`.

    Attributes:
        labels: (N,) int64 identity of each image in [0, K) without gaps, or None for an unlabeled set.
        identities: K names in the order of labels ("0", "1", … where the format has none); empty when unlabeled.
        fingerprint: Sixteen hexadecimal digits that change when any image, label or their order does; cheap
            (index and sizes and sampled bytes, not every byte), and independent of where the files lie.
    """

    labels: np.ndarray | None
    identities: list[str]
    fingerprint: str

    def __len__(self) -> int:
        """N, the number of images."""
        ...

    def encoded(self, index: int) -> bytes:
        """The file (JPEG, PNG, …) of one image, as stored."""
        ...

    def where(self, index: int) -> str:
        """Place of one image for messages: `train.rec, byte 8192` or `folder/anna/3.jpg`."""
        ...


def read_faces(faces: FaceSet, indices: np.ndarray) -> np.ndarray:
    """Decoded faces, (n, 112, 112, 3) uint8 RGB, of `indices` (n,).

    Raises:
        DataError: If an image cannot be decoded or has another size.
    """
    images = np.empty((len(indices), SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    for row, index in zip(images, indices.tolist(), strict=True):
        row[:] = decode_face(faces.encoded(index), faces.where(index))
    return images


def image_ending(image: bytes, number: int) -> str:
    """`jpg`, `png` or `webp`, by the first bytes.

    Raises:
        DataError: If it is none of them.
    """
    if image[:2] == b"\xff\xd8":
        return "jpg"
    if image[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    raise DataError(f"image {number} is no JPEG, PNG or WebP file; leave it out or convert it")
