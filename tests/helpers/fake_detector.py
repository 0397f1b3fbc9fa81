"""A detector that finds a face in every image and reads its yaw from the image's mean brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from facedistill.models.detectors.scrfd import Faces


class BrightnessDetector:
    """The nose is `brightness` (-1 to 1) half eye distances to the right, and a little lower; black images have no face."""

    def __init__(self, weights: Any = None) -> None:
        self.asked = 0

    def detect(self, image: Image.Image, size_px: int) -> Faces:
        self.asked += 1
        mean = float(np.asarray(image).mean())
        if mean == 0:
            return Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
        nose = mean / 127.5 - 1
        landmarks = np.array([[[-1, 0], [1, 0], [nose, 1 + 0.3 * nose], [-0.7, 2], [0.7, 2]]])
        return Faces(np.array([[-2.0, -2, 2, 2]]), np.ones(1), landmarks)
