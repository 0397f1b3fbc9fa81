"""Each effect of a photograph augmentation alone, weak to strong, to look at."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from facedistill.data.augmentation import effects, values
from facedistill.data.augmentation.geometry import black_frame, homography, warp
from facedistill.data.augmentation.photo import PhotoAugment, between

_DEVIATIONS = torch.tensor([0.5, 1.0, 2.0])
_PARTS = torch.tensor([0.1, 0.5, 1.0])


def effect_examples(augment: PhotoAugment, face: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Applies every effect of `augment` alone.

    Normally distributed values are shown at 0.5, 1 and 2 standard deviations, uniform ones at 10, 50 and 100 % of their
    range, always from weak to strong. Effects that the augmentation turns off are left out.

    Args:
        augment: Whose values are shown.
        face: (3, S, S) in [-1, 1].

    Yields:
        A caption of two lines, and the images (3, 3, S, S) in [-1, 1].
    """
    three = face.expand(3, -1, -1, -1)
    yield "unchanged, mirror,\ngray", torch.stack([face, face.flip(-1), effects.gray(face[None])[0]])
    for examples in (_moved, _relit, _covered, _degraded):
        for title, strengths, images in examples(augment, three):
            if strengths.abs().max() > 0:
                yield f"{title}\n{_listed(strengths)}", images.clamp(-1, 1)


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())


def _moved(augment: PhotoAugment, faces: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    neutral = {
        "mirror": torch.zeros(3, dtype=torch.bool), "scale": torch.ones(3), "angle": torch.zeros(3),
        "shift": torch.zeros(3, 2), "shear": torch.zeros(3), "perspective": torch.zeros(3, 2), "squeeze": torch.ones(3),
    }  # fmt: skip

    def shown(**changes: Tensor) -> Tensor:
        return warp(faces, *values.warp(homography(**{**neutral, **changes})))

    zoom, angle, shift, shear, depth = (
        sd * _DEVIATIONS
        for sd in (augment.scale, augment.rotation, augment.shift, augment.shear, augment.perspective)
    )
    narrow = augment.squeeze**_PARTS * min(1.0, 1e6 * augment.squeeze_probability)
    yield "log zoom", zoom, shown(scale=zoom.exp())
    yield "rotation, degrees", angle.rad2deg(), shown(angle=angle)
    yield "shift, widths", shift, shown(shift=shift[:, None].expand(-1, 2))
    yield "shear", shear, shown(shear=shear)
    yield "perspective", depth, shown(perspective=torch.stack([depth, torch.zeros(3)], 1))
    yield "squeeze", narrow, shown(squeeze=narrow.clamp_min(1))


def _relit(augment: PhotoAugment, faces: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    one, zero, signs = torch.ones(3), torch.zeros(3), torch.tensor([1.0, -0.5, -1.0])

    def shown(
        gamma: Tensor = one, contrast: Tensor = one, brightness: Tensor = zero, color: Tensor | None = None
    ) -> Tensor:
        return effects.relight(
            faces,
            *values.relight(gamma, contrast, brightness, torch.zeros(3, 3) if color is None else color),
        )

    gamma, contrast, brightness, color = (
        sd * _DEVIATIONS for sd in (augment.gamma, augment.contrast, augment.brightness, augment.color)
    )
    yield "log gamma", gamma, shown(gamma=gamma.exp())
    yield "log contrast", -contrast, shown(contrast=(-contrast).exp())
    yield "brightness", -brightness, shown(brightness=-brightness)
    yield "color, per channel", color, shown(color=color[:, None] * signs)
    side = augment.side_light_strength * _PARTS * bool(augment.side_light)
    yield "side light", side, effects.side_light(faces, *values.side_light(zero, side))


def _covered(augment: PhotoAugment, faces: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    color = torch.tensor([[-0.6, -0.4, 0.1], [0.5, 0.2, 0.0], [-0.2, 0.1, -0.3]])
    offsets = torch.tensor([[0.1, 0.2], [0.5, 0.4], [0.8, 0.7]])
    size = (faces.shape[-2], faces.shape[-1])
    area = between(augment.occlusion_area, _PARTS) * bool(augment.occlusion)
    half, center = area.sqrt()[:, None], torch.tensor([[0.0, -0.3], [-0.4, 0.1], [0.1, 0.4]])
    boxes = torch.cat([center - half, center + half], 1)
    yield "rectangle, area", area, effects.cover(faces, *values.cover(boxes, color, offsets, size))
    width = between(augment.side_occlusion_width, _PARTS) * bool(augment.side_occlusion)
    boxes = torch.stack([1 - 2 * width, torch.full((3,), -2.0), *torch.full((2, 3), 2.0)], 1)
    yield "side, width", width, effects.cover(faces, *values.cover(boxes, color, offsets, size))


def _degraded(augment: PhotoAugment, faces: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    size = (faces.shape[-2], faces.shape[-1])
    offsets = torch.tensor([[0.1, 0.2], [0.5, 0.4], [0.8, 0.7]])
    sigma = between(augment.blur_sigma, _PARTS) * bool(augment.blur)
    yield "blur, pixels", sigma, effects.blur(faces, *values.blur(sigma))
    pixels = between(augment.low_resolution_px, 1 - _PARTS).long() * bool(augment.low_resolution)
    coarse = effects.low_resolution(faces, *values.low_resolution(pixels.clamp_min(1)))
    yield "resolution, pixels", pixels, coarse
    noise = augment.noise_strength * _PARTS * bool(augment.noise)
    yield (
        "sensor noise",
        noise,
        faces + effects.sensor_noise(faces, *values.sensor_noise(noise, offsets, size)),
    )
    quality = between(augment.jpeg_quality, 1 - _PARTS) * bool(augment.jpeg)
    yield "JPEG quality", quality, effects.jpeg(faces, *values.jpeg(quality.clamp_min(1)))
    angle = augment.frame_angle * _DEVIATIONS * bool(augment.frame)
    top, bottom, sides = augment.frame_cuts
    cuts = _PARTS[:, None] * torch.tensor([top, bottom, sides, sides])
    framed = faces + black_frame(faces, *values.black_frame(angle, cuts))
    yield "black frame, degrees", torch.rad2deg(angle), framed
