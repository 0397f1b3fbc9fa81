"""SCRFD (Guo et al. 2021): a one-stage face detector with five landmarks, run by onnxruntime.

The network predicts on three grids of stride 8, 16 and 32 with two anchors per cell; per anchor a score, the
distances from the anchor's center to the four sides, and five landmark offsets, both in units of the stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.errors import AssetError
from facedistill.models.onnx_session import cpu_session

Floats = NDArray[np.floating]
_STRIDES = (8, 16, 32)
_ANCHORS_PER_CELL = 2
_SIZES_PX = (
    320,
    640,
    1280,
    2560,
)  # of the longer edge; from the third on for photographs larger than the one before
_LARGEST_FRAMED_PX = 2560
_SMALL_FACE_PX = {320: 80}  # the landmarks of smaller faces are imprecise at this size
_SMALL_FACE_ELSEWHERE_PX = 40
_LEAST_SCORE = 0.5
_MOST_OVERLAP = 0.4  # of two boxes that overlap more, the one with the higher score is kept
_OUTPUTS = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in _STRIDES]


@dataclass(frozen=True)
class Faces:
    """M detected faces, by decreasing score, in pixels of the photograph.

    Attributes:
        boxes: (M, 4) left, top, right, bottom.
        scores: (M,) in [0, 1].
        landmarks: (M, 5, 2) eyes, nose's tip, mouth's corners; the image's left first.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def main(self, width: int, height: int) -> int:
        """Index of the main face: large, and near the middle.

        Maximizes box area minus twice the squared distance of the box from the photograph's middle.

        Raises:
            ValueError: If there is no face.
        """
        if not len(self):
            raise ValueError("no face to choose from")
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        middles = (self.boxes[:, 2:] + self.boxes[:, :2]) / 2 - np.array([width, height]) / 2
        return int(np.argmax(sides.prod(1) - 2 * (middles**2).sum(1)))


class Scrfd:
    """The detector.

    Args:
        weights: The ONNX file, as `obtain("scrfd_500m")` returns it.
        num_threads: Threads of onnxruntime; 0 uses every core.

    Raises:
        AssetError: If the file is not an SCRFD network with landmarks.
    """

    def __init__(self, weights: Path, *, num_threads: int = 1) -> None:
        try:
            self._session = cpu_session(weights, num_threads)
            outputs = {output.name for output in self._session.get_outputs()}
        except Exception as error:  # onnxruntime has an error class for each status
            raise AssetError(
                f"detector {weights}: onnxruntime cannot load it ({type(error).__name__})"
            ) from error
        if not outputs.issuperset(_OUTPUTS):
            raise AssetError(
                f"detector {weights}: is not an SCRFD network with landmarks (outputs {sorted(outputs)})"
            )
        self._input = self._session.get_inputs()[0].name

    def detect(self, image: Image.Image, size_px: int) -> Faces:
        """All faces of an RGB photograph, its longer edge resized to `size_px`, a multiple of 32."""
        scale = size_px / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = np.zeros((size_px, size_px, 3), dtype=np.float32)
        canvas[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        pixels = ((canvas - 127.5) / 128).transpose(2, 0, 1)[None]  # (1, 3, size, size)
        raw = dict(zip(_OUTPUTS, self._session.run(_OUTPUTS, {self._input: pixels}), strict=True))
        boxes, scores, landmarks = _decode(raw, size_px, _LEAST_SCORE)
        kept = nms(boxes, scores, _MOST_OVERLAP)
        unit = np.array([size[0] / image.width, size[1] / image.height])

        def to_photograph(points: Floats) -> Floats:  # resizing keeps corners, we count from pixel centers
            return (points + 0.5) / unit - 0.5

        corners = to_photograph(boxes[kept].reshape(-1, 2, 2)).reshape(-1, 4)
        return Faces(corners, scores[kept], to_photograph(landmarks[kept]))

    def find(self, image: Image.Image) -> Faces:
        """Detects at 320 px, at 640 px for small faces, and at up to 2560 px for smaller ones in large photographs.

        If there is none, it looks again within a black frame, for faces that fill the photograph.
        """
        found = None
        for size_px in _sizes(max(image.size)):
            faces = self.detect(image, size_px)
            found = faces if len(faces) or found is None else found
            enough = _SMALL_FACE_PX.get(size_px, _SMALL_FACE_ELSEWHERE_PX) / size_px * max(image.size)
            if len(faces) and (faces.boxes[:, 2:] - faces.boxes[:, :2]).max() >= enough:
                return faces
        assert found is not None
        return found if len(found) else self._framed(image)

    def find_all(self, image: Image.Image) -> Faces:
        """Detects at every size that suits the photograph, so that large and small faces are found together."""
        found = [self.detect(image, size_px) for size_px in _sizes(max(image.size))]
        boxes, scores, landmarks = (
            np.concatenate([getattr(faces, name) for faces in found])
            for name in ("boxes", "scores", "landmarks")
        )
        kept = nms(boxes, scores, _MOST_OVERLAP)
        return Faces(boxes[kept], scores[kept], landmarks[kept]) if len(kept) else self._framed(image)

    def _framed(self, image: Image.Image) -> Faces:
        if (
            longest := max(image.size)
        ) > _LARGEST_FRAMED_PX:  # the frame of a long strip would take gigabytes
            reduced = image.copy()
            reduced.thumbnail((_LARGEST_FRAMED_PX, _LARGEST_FRAMED_PX), Image.Resampling.BILINEAR)
            faces, scale = self._framed(reduced), longest / _LARGEST_FRAMED_PX
            return Faces(
                (faces.boxes + 0.5) * scale - 0.5, faces.scores, (faces.landmarks + 0.5) * scale - 0.5
            )
        pad = max(image.size) // 2
        framed = Image.new("RGB", (image.width + 2 * pad, image.height + 2 * pad))
        framed.paste(image, (pad, pad))
        faces = self.detect(framed, 320)
        return Faces(faces.boxes - pad, faces.scores, faces.landmarks - pad)


def _sizes(longest: int) -> list[int]:
    """320 and 640 px, and the larger sizes that do not enlarge the photograph twofold or more.

    >>> _sizes(250), _sizes(1000), _sizes(6000)
    ([320, 640], [320, 640, 1280], [320, 640, 1280, 2560])
    """
    return [size_px for size_px in _SIZES_PX if size_px <= 640 or size_px < 2 * longest]


def _decode(raw: Mapping[str, Floats], size_px: int, threshold: float) -> tuple[Floats, Floats, Floats]:
    """Boxes (M, 4), scores (M,), landmarks (M, 5, 2) of the anchors above the threshold, in the network's pixels."""
    boxes, scores, landmarks = [], [], []
    for stride in _STRIDES:
        cells = size_px // stride
        rows, columns = np.mgrid[:cells, :cells]
        centers = np.stack([columns, rows], -1).reshape(-1, 2).repeat(_ANCHORS_PER_CELL, 0) * float(stride)
        score = raw[f"score_{stride}"].reshape(-1)
        selected = score >= threshold
        sides = raw[f"bbox_{stride}"].reshape(-1, 4)[selected] * stride  # left, top, right, bottom
        offsets = raw[f"kps_{stride}"].reshape(-1, 5, 2)[selected] * stride
        middle = centers[selected]
        boxes.append(np.hstack([middle - sides[:, :2], middle + sides[:, 2:]]))
        scores.append(score[selected])
        landmarks.append(middle[:, None] + offsets)
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks)


def nms(boxes: Floats, scores: Floats, iou_threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression.

    Args:
        boxes: (M, 4) left, top, right, bottom.
        scores: (M,).
        iou_threshold: A box that shares more than this part of its union with a kept box of higher score is dropped.

    Returns:
        Indices of the kept boxes, by decreasing score.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    remaining = np.argsort(-scores, kind="stable")
    kept = []
    while len(remaining):
        best, rest = remaining[0], remaining[1:]
        kept.append(best)
        corner = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = corner.clip(0).prod(1)
        union = areas[best] + areas[rest] - shared
        remaining = rest[shared <= iou_threshold * union]
    return np.array(kept, dtype=np.intp)
