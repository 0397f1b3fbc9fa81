"""Random changes that make a clean face look like a photograph, the same after every resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from facedistill.data.augmentation import effects
from facedistill.data.augmentation.geometry import black_frame, homography, on_device_of, warp
from facedistill.errors import ConfigError
from facedistill.models.counter_random import uniform

_NUM_DRAWS = 64
_BLOCK = 64  # images changed together on a core: memory that its cache still holds
_PROBABILITIES = (
    "flip", "squeeze_probability", "side_light", "gray", "occlusion", "side_occlusion", "blur", "low_resolution",
    "noise", "jpeg", "frame",
)  # fmt: skip


class PhotoAugment:
    """Geometry, light, occlusion, sharpness, compression and the black frame of a tight photograph.

    Every number is a function of (seed, step, sample): neither the device nor the number of processes changes it. An effect
    that has probability p costs time for the images that it changes only. The presets are `conf/augment/*.yaml`.

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

    >>> augment = PhotoAugment(jpeg=1.0)
    >>> augment(torch.zeros(2, 3, 112, 112), seed=1, step=0, samples=torch.arange(2)).shape
    torch.Size([2, 3, 112, 112])
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
        if squeeze < 1 or len(self.frame_cuts) != 3:
            raise ConfigError(
                f"augment.squeeze={squeeze} must be 1 or more, and augment.frame_cuts={list(self.frame_cuts)} three "
                "fractions: top, bottom, sides"
            )

    def __call__(self, images: Tensor, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """Changes faces.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            seed: The run's seed.
            step: Number of the training step.
            samples: (N,) positions of the images in the global batch; on the CPU, so that nothing waits for the device.

        Returns:
            (N, 3, H, W) in [-1, 1].
        """
        draws = uniform(seed, f"photo/{step}", samples.cpu(), _NUM_DRAWS)
        return self.apply(images, draws)

    @property
    def only_mirrors(self) -> bool:
        """Whether every image stays itself or becomes its mirror image."""
        return not (self._moves or self._relights or self._local_effects)

    def mirrored(self, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """(N,) bool on the CPU: which images of the step are mirrored."""
        return uniform(seed, f"photo/{step}", samples.cpu(), _NUM_DRAWS)[:, 0] < self.flip

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Changes images by given uniform numbers (N, 64) on the CPU, where rows are chosen without a wait for the device."""
        if images.device.type != "cpu":
            return self._changed(images, draws)
        block = _BLOCK * torch.get_num_threads()
        return torch.cat(
            [self._changed(*part) for part in zip(images.split(block), draws.split(block), strict=True)]
        )

    def _changed(self, images: Tensor, draws: Tensor) -> Tensor:
        take = _Columns(draws)
        images = self._move(images, take)
        images = self._relight(images, take)
        images = self._cover(images, take)
        images = self._degrade(images, take)
        return self._frame(images, take)

    @property
    def _moves(self) -> bool:
        return any(
            (self.scale, self.rotation, self.shift, self.shear, self.perspective, self.squeeze_probability)
        )

    @property
    def _relights(self) -> bool:
        return any((self.gamma, self.contrast, self.brightness, self.color))

    @property
    def _local_effects(self) -> bool:
        return any(getattr(self, name) for name in _PROBABILITIES[2:])

    def _move(self, images: Tensor, take: _Columns) -> Tensor:
        mirror = take.one() < self.flip
        normals = take.normals(7)
        narrow, factor = take.one() < self.squeeze_probability, take.one()
        if not self._moves:
            return torch.where(on_device_of(images, mirror).view(-1, 1, 1, 1), images.flip(-1), images)
        maps = homography(
            mirror=mirror,
            scale=(self.scale * normals[:, 0]).exp(),
            angle=self.rotation * normals[:, 1],
            shift=self.shift * normals[:, 2:4],
            shear=self.shear * normals[:, 4],
            perspective=self.perspective * normals[:, 5:7],
            squeeze=torch.where(narrow, self.squeeze**factor, torch.ones_like(factor)),
        )
        return warp(images, on_device_of(images, maps))

    def _relight(self, images: Tensor, take: _Columns) -> Tensor:
        normals = take.normals(6)
        lit, angle, strength, is_gray = (
            take.one() < self.side_light,
            take.one(),
            take.one(),
            take.one() < self.gray,
        )
        if self._relights:
            values = (
                (self.gamma * normals[:, 0]).exp(),
                (self.contrast * normals[:, 1]).exp(),
                self.brightness * normals[:, 2],
                self.color * normals[:, 3:6],
            )
            images = effects.relight(images, *(on_device_of(images, value) for value in values)).clamp_(-1, 1)
        images = _changed(
            images, lit, effects.side_light, 2 * math.pi * angle, self.side_light_strength * strength
        )
        return _changed(images, is_gray, effects.gray)

    def _cover(self, images: Tensor, take: _Columns) -> Tensor:
        chosen, area, ratio, place = take.one() < self.occlusion, take.one(), take.one(), take.many(2)
        color, offsets = 2 * take.many(3) - 1, take.many(2)
        half = (between(self.occlusion_area, area)).sqrt()[:, None]  # of the box; the face is 2 wide
        aspect = (2 * ratio - 1)[:, None].mul(math.log(2) / 2).exp()
        size = torch.cat([half * aspect, half / aspect], 1)
        center = 2 * place - 1
        images = _changed(
            images, chosen, effects.cover, torch.cat([center - size, center + size], 1), color, offsets
        )
        chosen, width, side = take.one() < self.side_occlusion, take.one(), (take.one() < 0.5).float() * 2 - 1
        color, offsets = 2 * take.many(3) - 1, take.many(2)
        edge = 1 - 2 * between(self.side_occlusion_width, width)
        far, near = torch.where(side < 0, -2.0, edge), torch.where(side < 0, -edge, 2.0)
        boxes = torch.stack([far, torch.full_like(far, -2), near, torch.full_like(far, 2)], 1)
        return _changed(images, chosen, effects.cover, boxes, color, offsets)

    def _degrade(self, images: Tensor, take: _Columns) -> Tensor:
        blurred, sigma = take.one() < self.blur, between(self.blur_sigma, take.one())
        coarse, pixels = take.one() < self.low_resolution, between(self.low_resolution_px, take.one()).long()
        noisy, strength, offsets = take.one() < self.noise, self.noise_strength * take.one(), take.many(2)
        compressed, quality = take.one() < self.jpeg, between(self.jpeg_quality, take.one())
        sigma = torch.where(blurred, sigma, 0.0)
        pixels = torch.where(coarse, pixels, images.shape[-1])
        images = _changed(images, blurred | coarse, effects.soften, sigma, pixels)
        images = _changed(images, noisy, effects.sensor_noise, strength, offsets)
        return _changed(images, compressed, effects.jpeg, quality).clamp_(-1, 1)

    def _frame(self, images: Tensor, take: _Columns) -> Tensor:
        framed, angle, cuts = take.one() < self.frame, self.frame_angle * take.normals(1)[:, 0], take.many(4)
        top, bottom, side = self.frame_cuts
        return _changed(images, framed, black_frame, angle, cuts * cuts.new_tensor([top, bottom, side, side]))


class _Columns:
    """Assigns the columns of the draws in a fixed order, independent of which effects are on."""

    def __init__(self, draws: Tensor) -> None:
        self._columns: Iterator[Tensor] = iter(draws.unbind(1))

    def one(self) -> Tensor:
        """(N,) numbers in [0, 1)."""
        return next(self._columns)

    def many(self, count: int) -> Tensor:
        """(N, count) numbers in [0, 1)."""
        return torch.stack([self.one() for _ in range(count)], 1)

    def normals(self, count: int) -> Tensor:
        """(N, count) standard normal numbers."""
        return torch.special.ndtri(self.many(count) + 2.0**-25)


def _changed(images: Tensor, chosen: Tensor, effect: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """Applies `effect` in place to the rows where `chosen` (N,) is true; `values` have a row per image, all on the CPU."""
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return images
    given = [on_device_of(images, value[rows]) for value in values]
    rows = on_device_of(images, rows)
    return images.index_copy_(0, rows, effect(images.index_select(0, rows), *given))


def between(bounds: tuple[float, float], u: Tensor) -> Tensor:
    """Numbers within `bounds`: its lower end where `u` is 0, its upper end where `u` is 1."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _range(name: str, bounds: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    low, high = bounds
    if not lowest <= low <= high <= highest:
        raise ConfigError(
            f"augment.{name}=[{low}, {high}]: must be two rising numbers within [{lowest}, {highest}]"
        )
    return float(low), float(high)
