"""Which of a photograph's faces is cut out, whatever detector found them."""

from __future__ import annotations

import importlib
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from PIL import Image

from facedistill.errors import ConfigError

Rule: TypeAlias = Literal["main", "largest", "center", "surest", "only"]


class Detector(Protocol):
    """What is needed of a face detector; `facedistill.models.detectors.scrfd.Scrfd` is one."""

    def find(self, image: Image.Image) -> Any:
        """Faces of an RGB photograph.

        Returns:
            An object with `boxes` (M, 4) left, top, right, bottom, `scores` (M,), and `landmarks` (M, 5, 2):
            eyes, nose's tip, mouth's corners, the image's left first; all in pixels of the photograph.
        """
        ...


def rules() -> dict[Rule, str]:
    """What each rule takes."""
    return {
        "main": "the face of largest area less twice its squared distance from the middle",
        "largest": "the largest box",
        "center": "the box nearest to the photograph's middle",
        "surest": "the highest score",
        "only": "photographs of several faces are rejected",
    }


def load_detector(dotted: str) -> Detector:
    """Makes the detector `package.Class`, without arguments.

    Raises:
        ConfigError: If there is no such class, it cannot be made, or it has no `find`.
    """
    module, _, name = dotted.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--detector {dotted}: there is no such class ({error}); give a dotted path that Python can import"
        ) from error
    except TypeError as error:
        raise ConfigError(
            f"--detector {dotted}: cannot be made without arguments ({error}); give a class or function that can"
        ) from error
    if not callable(getattr(made, "find", None)):
        raise ConfigError(
            f"--detector {dotted}: has no method find(image); see `facedistill data align --help`"
        )
    detector: Detector = made
    return detector


def choose_face(detector: Detector, image: Image.Image, rule: Rule, min_face_px: int = 0) -> np.ndarray | str:
    """Landmarks (5, 2) of the chosen face, or the reason why there is none.

    Args:
        detector: What finds faces.
        image: RGB photograph.
        rule: See `rules`.
        min_face_px: Least width of the chosen box.

    Raises:
        ConfigError: If the detector's answer has other shapes than it should.
    """
    boxes, scores, landmarks = checked_faces(detector, detector.find(image))
    if not len(boxes):
        return "no face found"
    if rule == "only" and len(boxes) > 1:
        return "several faces"
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.clip(0).prod(1)
    away = (((boxes[:, 2:] + boxes[:, :2]) / 2 - np.array(image.size) / 2) ** 2).sum(1)
    worth = {"largest": areas, "center": -away, "surest": scores}.get(rule, areas - 2 * away)
    best = int(np.argmax(worth))
    if sides[best, 0] < min_face_px:
        return f"face narrower than {min_face_px} px"
    if not np.isfinite(landmarks[best]).all():
        return "landmarks not finite"
    chosen: np.ndarray = landmarks[best]
    return chosen


def checked_faces(detector: Detector, faces: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (M, 4), scores (M,) and landmarks (M, 5, 2) of a detector's answer.

    Raises:
        ConfigError: If it has other shapes.
    """
    parts = [np.asarray(getattr(faces, name, None)) for name in ("boxes", "scores", "landmarks")]
    count = len(parts[0]) if parts[0].ndim else -1
    if [part.shape for part in parts] != [(count, 4), (count,), (count, 5, 2)]:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ConfigError(
            f"detector {type(detector).__name__}: find() gave boxes, scores, landmarks of shapes {shapes} instead of "
            "(M, 4), (M,), (M, 5, 2); fix the detector"
        )
    boxes, scores, landmarks = (part.astype(np.float64) for part in parts)
    return boxes, scores, landmarks
