"""Random changes of faces on the device, the same after every resume."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.models.latents import draw_latents
from facedistill.system.devices import copied_to

_NUM_DRAWS = 8


class Augment:
    """Mirrors, moves, mixes and re-lights faces; every number is drawn from (seed, step, sample).

    Args:
        flip: Probability of a horizontal mirror image, in [0, 1].
        scale: Standard deviation of the log zoom.
        rotation_deg: Standard deviation of the rotation, degrees.
        shift: Standard deviation of the translation, a fraction of the width.
        contrast: Standard deviation of the log contrast.
        brightness: Standard deviation of the added brightness, in units of the [-1, 1] range.
        gray: Probability of a gray image, in [0, 1].
    """

    def __init__(
        self,
        *,
        flip: float = 0.5,
        scale: float = 0.0,
        rotation_deg: float = 0.0,
        shift: float = 0.0,
        contrast: float = 0.0,
        brightness: float = 0.0,
        gray: float = 0.0,
    ) -> None:
        self.flip = flip
        self.scale = scale
        self.rotation_rad = math.radians(rotation_deg)
        self.shift = shift
        self.contrast = contrast
        self.brightness = brightness
        self.gray = gray

    def __call__(self, images: Tensor, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """Returns (N, C, H, W) changed images in [-1, 1]; `samples` (N,), on the CPU, are the positions in the batch."""
        draws = draw_latents(seed, f"augment/{step}", samples.cpu(), _NUM_DRAWS)
        draws = copied_to(images.device, draws)
        images = self._move(images, draws)
        contrast = (self.contrast * draws[:, 5]).exp()
        brightness = self.brightness * draws[:, 6]
        images = images * contrast.view(-1, 1, 1, 1) + brightness.view(-1, 1, 1, 1)
        is_gray = (torch.special.ndtr(draws[:, 7]) < self.gray).view(-1, 1, 1, 1)
        images = torch.where(is_gray, images.mean(1, keepdim=True), images)
        return images.clamp(-1, 1)

    @property
    def only_mirrors(self) -> bool:
        """Whether every image stays itself or becomes its mirror image."""
        others = (self.scale, self.rotation_rad, self.shift, self.contrast, self.brightness, self.gray)
        return not any(others)

    def mirrored(self, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """(N,) bool on the CPU: which images of the step are mirrored."""
        draws = draw_latents(seed, f"augment/{step}", samples.cpu(), _NUM_DRAWS)
        return torch.special.ndtr(draws[:, 0]) < self.flip

    def _move(self, images: Tensor, draws: Tensor) -> Tensor:
        mirror = 1 - 2 * (torch.special.ndtr(draws[:, 0]) < self.flip).float()
        if not (self.scale or self.rotation_rad or self.shift):
            return torch.where((mirror < 0).view(-1, 1, 1, 1), images.flip(-1), images)
        zoom, angle = (self.scale * draws[:, 1]).exp(), self.rotation_rad * draws[:, 2]
        shift = 2 * self.shift * draws[:, 3:5]  # grid coordinates span [-1, 1]
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        rows = [
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
