"""The settings of the photograph augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from facedistill.errors import ConfigError

_PROBABILITIES = (
    "flip", "squeeze_probability", "side_light", "gray", "occlusion", "side_occlusion", "blur", "low_resolution",
    "noise", "jpeg", "frame",
)  # fmt: skip


class PhotoSettings:
    """Probabilities and strengths of the effects of a photograph augmentation.

    Args:
        flip: Probability of a horizontal mirror image.
        scale: Standard deviation of the log zoom.
        rotation_deg: Standard deviation of the rotation, degrees.
        shift: Standard deviation of the shift, in widths.
        shear: Standard deviation of the shear.
        perspective: Standard deviation of the depth's slope, in both directions.
        squeeze: Largest factor by which a face is made narrower, >= 1.
        squeeze_probability: Of a narrower face.
        gamma: Standard deviation of the log exponent.
        contrast: Standard deviation of the log contrast.
        brightness: Standard deviation of the added brightness, in units of the [-1, 1] range.
        color: Standard deviation of the brightness added per channel.
        side_light: Probability of light from one side.
        side_light_strength: Its largest strength, in [0, 1].
        gray: Probability of a gray image.
        occlusion: Probability of a covered rectangle.
        occlusion_area: Its smallest and largest area, fractions.
        side_occlusion: Probability that one side is covered.
        side_occlusion_width: Its smallest and largest width, fractions.
        blur: Probability of a blurred image.
        blur_sigma: Smallest and largest standard deviation, pixels.
        low_resolution: Probability of a low resolution.
        low_resolution_px: Smallest and largest number of pixels.
        noise: Probability of sensor noise.
        noise_strength: Its largest standard deviation, in units of the [-1, 1] range.
        jpeg: Probability of JPEG artifacts.
        jpeg_quality: Lowest and highest quality, in [1, 100].
        frame: Probability of a black frame.
        frame_angle_deg: Standard deviation of its rotation, degrees.
        frame_cuts: Largest fractions that it cuts off at the top, at the bottom, and at each side.

    Raises:
        ConfigError: If a probability or a range is invalid.
    """

    def __init__(
        self, *, flip: float = 0.5, scale: float = 0.0, rotation_deg: float = 0.0, shift: float = 0.0,
        shear: float = 0.0, perspective: float = 0.0, squeeze: float = 1.0, squeeze_probability: float = 0.0,
        gamma: float = 0.0, contrast: float = 0.0, brightness: float = 0.0, color: float = 0.0,
        side_light: float = 0.0, side_light_strength: float = 0.5, gray: float = 0.0,
        occlusion: float = 0.0, occlusion_area: list[float] | None = None,
        side_occlusion: float = 0.0, side_occlusion_width: list[float] | None = None,
        blur: float = 0.0, blur_sigma: list[float] | None = None,
        low_resolution: float = 0.0, low_resolution_px: list[int] | None = None,
        noise: float = 0.0, noise_strength: float = 0.12,
        jpeg: float = 0.0, jpeg_quality: list[int] | None = None,
        frame: float = 0.0, frame_angle_deg: float = 10.0, frame_cuts: list[float] | None = None,
    ) -> None:  # fmt: skip
        self.flip, self.scale, self.rotation, self.shift = flip, scale, math.radians(rotation_deg), shift
        self.shear, self.perspective = shear, perspective
        self.squeeze, self.squeeze_probability = squeeze, squeeze_probability
        self.gamma, self.contrast, self.brightness, self.color = gamma, contrast, brightness, color
        self.side_light, self.side_light_strength, self.gray = side_light, side_light_strength, gray
        self.occlusion, self.side_occlusion = occlusion, side_occlusion
        self.blur, self.low_resolution, self.noise, self.jpeg = blur, low_resolution, noise, jpeg
        self.noise_strength = noise_strength
        self.frame, self.frame_angle = frame, math.radians(frame_angle_deg)
        self.frame_cuts = tuple(frame_cuts or (0.35, 0.08, 0.2))
        self.occlusion_area = _range("occlusion_area", occlusion_area or (0.02, 0.25), 0, 1)
        self.side_occlusion_width = _range("side_occlusion_width", side_occlusion_width or (0.25, 0.5), 0, 1)
        self.blur_sigma = _range("blur_sigma", blur_sigma or (0.4, 2.0), 0, math.inf)
        self.low_resolution_px = _range("low_resolution_px", low_resolution_px or (20, 80), 1, 112)
        self.jpeg_quality = _range("jpeg_quality", jpeg_quality or (10, 70), 1, 100)
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name}={getattr(self, name)}: must be a probability in [0, 1]")
        if not 0 <= side_light_strength <= 1:
            raise ConfigError(f"augment.side_light_strength={side_light_strength}: must be in [0, 1]")
        if squeeze < 1 or len(self.frame_cuts) != 3:
            raise ConfigError(
                f"augment.squeeze={squeeze} must be 1 or more, and augment.frame_cuts={list(self.frame_cuts)} three "
                "fractions: top, bottom, sides"
            )
        top, bottom, side = self.frame_cuts
        if min(self.frame_cuts) < 0 or top + bottom >= 1 or 2 * side >= 1:
            raise ConfigError(
                f"augment.frame_cuts={list(self.frame_cuts)}: top and bottom together, and both sides, must be below 1"
            )

    @property
    def moves(self) -> bool:
        """Whether any setting changes the geometry of images in other ways than by mirroring them."""
        return any(
            (self.scale, self.rotation, self.shift, self.shear, self.perspective, self.squeeze_probability)
        )

    @property
    def relights(self) -> bool:
        """Whether any setting changes the light of every image."""
        return any((self.gamma, self.contrast, self.brightness, self.color))

    @property
    def only_mirrors(self) -> bool:
        """Whether every image stays itself or becomes its mirror image."""
        return not (self.moves or self.relights or any(getattr(self, name) for name in _PROBABILITIES[2:]))


def _range(name: str, bounds: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    low, high = bounds
    if not lowest <= low <= high <= highest:
        raise ConfigError(
            f"augment.{name}=[{low}, {high}]: must be two rising numbers within [{lowest}, {highest}]"
        )
    return float(low), float(high)
