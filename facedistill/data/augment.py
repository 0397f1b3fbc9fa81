"""Random changes of faces on the device, the same after every resume."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.data.augmentation.changes import Changes
from facedistill.models.latents import draw_latents

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
        return self.apply(images, self.prepare(seed=seed, step=step, samples=samples).to(images.device))

    def prepare(self, *, seed: int, step: int, samples: Tensor) -> Changes:
        """What changes the images at the positions `samples` (N,) of a step; on the CPU."""
        draws = draw_latents(seed, f"augment/{step}", samples.cpu(), _NUM_DRAWS)
        mirror, is_gray = (
            torch.special.ndtr(draws[:, 0]) < self.flip,
            torch.special.ndtr(draws[:, 7]) < self.gray,
        )
        drawn = {
            "light": [(self.contrast * draws[:, 5]).exp(), self.brightness * draws[:, 6]],
            "gray": [is_gray.float()],
        }
        if self._moves:
            sign = 1 - 2 * mirror.float()
            zoom, angle = (self.scale * draws[:, 1]).exp(), self.rotation_rad * draws[:, 2]
            shift = 2 * self.shift * draws[:, 3:5]  # grid coordinates span [-1, 1]
            cos, sin = zoom * angle.cos(), zoom * angle.sin()
            rows = [cos * sign, -sin, shift[:, 0], sin * sign, cos, shift[:, 1]]
            drawn["move"] = [torch.stack(rows, 1).view(-1, 2, 3)]
        else:
            drawn["mirror"] = [mirror.float()]
        return Changes.of(drawn)

    def apply(self, images: Tensor, changes: Changes) -> Tensor:
        """Changes images (N, C, H, W) as `prepare` says, on the device of both; (N, C, H, W) in [-1, 1]."""
        given = dict(changes.effects())
        if "move" in given:
            grid = F.affine_grid(given["move"][0], list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        else:
            images = torch.where(_per_image(given["mirror"][0]) > 0, images.flip(-1), images)
        contrast, brightness = map(_per_image, given["light"])
        images = images * contrast + brightness
        images = torch.where(_per_image(given["gray"][0]) > 0, images.mean(1, keepdim=True), images)
        return images.clamp(-1, 1)

    @property
    def only_mirrors(self) -> bool:
        """Whether every image stays itself or becomes its mirror image."""
        return not (self._moves or self.contrast or self.brightness or self.gray)

    @property
    def _moves(self) -> bool:
        return bool(self.scale or self.rotation_rad or self.shift)

    def mirrored(self, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """(N,) bool on the CPU: which images of the step are mirrored."""
        draws = draw_latents(seed, f"augment/{step}", samples.cpu(), _NUM_DRAWS)
        return torch.special.ndtr(draws[:, 0]) < self.flip


def _per_image(numbers: Tensor) -> Tensor:
    return numbers.view(-1, 1, 1, 1)
