"""Writes `augmentation.npz`: what each effect of the photograph augmentation makes of two drawn faces.

python -m tests.golden.make_augmentation
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedistill.data.augment import Augment
from facedistill.data.augmentation import PhotoAugment
from facedistill.images import to_uint8
from facedistill.models.teachers.golden import draw_faces

FILE = Path(__file__).with_name("augmentation.npz")
EFFECTS: dict[str, dict[str, Any]] = {
    "flip": {"flip": 0.5}, "scale": {"scale": 0.08}, "rotation": {"rotation_deg": 6.0}, "shift": {"shift": 0.03},
    "shear": {"shear": 0.06}, "perspective": {"perspective": 0.12}, "squeeze": {"squeeze": 1.6, "squeeze_probability": 1.0},
    "gamma": {"gamma": 0.25}, "contrast": {"contrast": 0.25}, "brightness": {"brightness": 0.2}, "color": {"color": 0.06},
    "side_light": {"side_light": 1.0}, "gray": {"gray": 1.0}, "occlusion": {"occlusion": 1.0},
    "side_occlusion": {"side_occlusion": 1.0}, "blur": {"blur": 1.0}, "low_resolution": {"low_resolution": 1.0},
    "noise": {"noise": 1.0}, "jpeg": {"jpeg": 1.0}, "frame": {"frame": 1.0},
}  # fmt: skip


def pixels(name: str) -> np.ndarray:
    """(2, 3, 13, 12) uint8: every ninth pixel of samples 0 and 5 of step 3, seed 7."""
    draw: dict[str, Any] = {"seed": 7, "step": 3, "samples": torch.tensor([0, 5])}
    if name == "light":
        augment: Any = Augment(
            scale=0.05, rotation_deg=1.5, shift=0.01, contrast=0.1, brightness=0.1, gray=0.5
        )
    else:
        augment = PhotoAugment(**{"flip": 0.0, **EFFECTS[name]})
    return to_uint8(augment(draw_faces(2), **draw)[..., 3::9, 4::9]).numpy()


if __name__ == "__main__":
    np.savez_compressed(FILE, **{name: pixels(name) for name in [*EFFECTS, "light"]})
