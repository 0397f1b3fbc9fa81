"""Random changes that make a clean face look like a photograph, the same after every resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from facedistill.data.augmentation import effects, values
from facedistill.data.augmentation.changes import Changes
from facedistill.data.augmentation.columns import Columns
from facedistill.data.augmentation.geometry import black_frame, homography, warp
from facedistill.data.augmentation.settings import PhotoSettings
from facedistill.images import SIZE_PX
from facedistill.models.counter_random import uniform

_NUM_DRAWS = 64
_BLOCK = 16  # images changed together on a core: memory that its cache still holds
_Drawn = Iterable[tuple[str, Sequence[Tensor]]]
_OF_ALL_IMAGES: dict[str, Callable[..., Tensor]] = {"move": warp, "relight": effects.relight}
_OF_SOME_IMAGES: dict[str, Callable[..., Tensor]] = {
    "mirror": lambda images: images.flip(-1),
    "side light": effects.side_light,
    "gray": effects.gray,
    "occlusion": effects.cover,
    "side occlusion": effects.cover,
    "blur": effects.blur,
    "low resolution": effects.low_resolution,
    "jpeg": effects.jpeg,
}
_ADDED_TO_SOME: dict[str, Callable[..., Tensor]] = {"noise": effects.sensor_noise, "frame": black_frame}


class PhotoAugment(PhotoSettings):
    """Geometry, light, occlusion, sharpness, compression and the black frame of a tight photograph.

    Every number is a function of (seed, step, sample): neither the device nor the number of processes changes it. An effect
    that has probability p costs time for the images that it changes only. The presets are `conf/augment/*.yaml`.

    Training draws in a worker (`prepare`) and changes the images on the device (`apply`); a call does both.

    >>> augment = PhotoAugment(jpeg=1.0)
    >>> augment(torch.zeros(2, 3, 112, 112), seed=1, step=0, samples=torch.arange(2)).shape
    torch.Size([2, 3, 112, 112])
    """

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
        height, width = images.shape[-2:]
        changes = self.prepare(seed=seed, step=step, samples=samples, size=(height, width))
        return self.apply(images, changes.to(images.device))

    def prepare(
        self, *, seed: int, step: int, samples: Tensor, size: tuple[int, int] = (SIZE_PX, SIZE_PX)
    ) -> Changes:
        """What changes the images at the positions `samples` (N,) of a step, of this height and width; on the CPU."""
        take = Columns(uniform(seed, f"photo/{step}", samples.cpu(), _NUM_DRAWS))
        drawn: dict[str, list[Tensor]] = {}
        self._move(drawn, take)
        self._relight(drawn, take)
        self._cover(drawn, take, size)
        self._degrade(drawn, take, size)
        self._frame(drawn, take)
        return Changes.of(drawn)

    def mirrored(self, *, seed: int, step: int, samples: Tensor) -> Tensor:
        """(N,) bool on the CPU: which images of the step are mirrored."""
        return uniform(seed, f"photo/{step}", samples.cpu(), _NUM_DRAWS)[:, 0] < self.flip

    def apply(self, images: Tensor, changes: Changes) -> Tensor:
        """Changes images (N, 3, H, W) as `prepare` says, on the device of both; (N, 3, H, W) in [-1, 1]."""
        if images.device.type != "cpu":
            return _changed(images, changes.effects()).clamp_(-1, 1)
        block, changed = _BLOCK * torch.get_num_threads(), torch.empty_like(images)
        blocks = _of_blocks(changes.effects(), len(images), block)
        for drawn, part, of_part in zip(blocks, images.split(block), changed.split(block), strict=True):
            torch.clamp(_changed(part, drawn), -1, 1, out=of_part)
        return changed

    def _move(self, drawn: dict[str, list[Tensor]], take: Columns) -> None:
        mirror = take.one() < self.flip
        normals = take.normals(7)
        narrow, factor = take.one() < self.squeeze_probability, take.one()
        if not self.moves:
            return _add(drawn, "mirror", mirror)
        maps = homography(
            mirror=mirror,
            scale=(self.scale * normals[:, 0]).exp(),
            angle=self.rotation * normals[:, 1],
            shift=self.shift * normals[:, 2:4],
            shear=self.shear * normals[:, 4],
            perspective=self.perspective * normals[:, 5:7],
            squeeze=torch.where(narrow, self.squeeze**factor, torch.ones_like(factor)),
        )
        drawn["move"] = values.warp(maps)

    def _relight(self, drawn: dict[str, list[Tensor]], take: Columns) -> None:
        normals = take.normals(6)
        lit, angle, strength = take.one() < self.side_light, take.one(), take.one()
        if self.relights:
            drawn["relight"] = values.relight(
                (self.gamma * normals[:, 0]).exp(),
                (self.contrast * normals[:, 1]).exp(),
                self.brightness * normals[:, 2],
                self.color * normals[:, 3:6],
            )
        _add(
            drawn,
            "side light",
            lit,
            *values.side_light(2 * math.pi * angle, self.side_light_strength * strength),
        )
        _add(drawn, "gray", take.one() < self.gray)

    def _cover(self, drawn: dict[str, list[Tensor]], take: Columns, size: tuple[int, int]) -> None:
        chosen, area, ratio, place = take.one() < self.occlusion, take.one(), take.one(), take.many(2)
        color, offsets = 2 * take.many(3) - 1, take.many(2)
        half = (between(self.occlusion_area, area)).sqrt()[:, None]  # of the box; the face is 2 wide
        aspect = (2 * ratio - 1)[:, None].mul(math.log(2) / 2).exp()
        extent, center = torch.cat([half * aspect, half / aspect], 1), 2 * place - 1
        boxes = torch.cat([center - extent, center + extent], 1)
        _add(drawn, "occlusion", chosen, *values.cover(boxes, color, offsets, size))
        chosen, width, side = take.one() < self.side_occlusion, take.one(), take.one() < 0.5
        color, offsets = 2 * take.many(3) - 1, take.many(2)
        edge = 1 - 2 * between(self.side_occlusion_width, width)
        far, near = torch.where(side, edge, -2.0), torch.where(side, 2.0, -edge)
        boxes = torch.stack([far, torch.full_like(far, -2), near, torch.full_like(far, 2)], 1)
        _add(drawn, "side occlusion", chosen, *values.cover(boxes, color, offsets, size))

    def _degrade(self, drawn: dict[str, list[Tensor]], take: Columns, size: tuple[int, int]) -> None:
        blurred, sigma = take.one() < self.blur, between(self.blur_sigma, take.one())
        coarse, pixels = take.one() < self.low_resolution, between(self.low_resolution_px, take.one()).long()
        noisy, strength, offsets = take.one() < self.noise, self.noise_strength * take.one(), take.many(2)
        compressed, quality = take.one() < self.jpeg, between(self.jpeg_quality, take.one())
        _add(drawn, "blur", blurred, *values.blur(sigma))
        _add(drawn, "low resolution", coarse, *values.low_resolution(pixels))
        _add(drawn, "noise", noisy, *values.sensor_noise(strength, offsets, size))
        _add(drawn, "jpeg", compressed, *values.jpeg(quality))

    def _frame(self, drawn: dict[str, list[Tensor]], take: Columns) -> None:
        framed, angle, cuts = take.one() < self.frame, self.frame_angle * take.normals(1)[:, 0], take.many(4)
        top, bottom, side = self.frame_cuts
        _add(
            drawn, "frame", framed, *values.black_frame(angle, cuts * torch.tensor([top, bottom, side, side]))
        )


def between(bounds: tuple[float, float], u: Tensor) -> Tensor:
    """Numbers within `bounds`: its lower end where `u` is 0, its upper end where `u` is 1."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _add(drawn: dict[str, list[Tensor]], name: str, chosen: Tensor, *given: Tensor) -> None:
    """Adds an effect: the rows where `chosen` (N,) is true, and their values."""
    rows = chosen.nonzero().squeeze(1)
    if len(rows):
        drawn[name] = [rows, *(value.index_select(0, rows) for value in given)]


def _of_blocks(drawn: _Drawn, count: int, block: int) -> Sequence[_Drawn]:
    """The effects on each `block` of `count` images, rows counted from its start."""
    blocks: list[list[tuple[str, Sequence[Tensor]]]] = [[] for _ in range(0, count, block)]
    for name, tensors in drawn:
        if name in _OF_ALL_IMAGES:
            split = [one.split(block) for one in tensors]
        else:
            rows, *given = tensors
            sizes = torch.bincount(rows // block, minlength=len(blocks)).tolist()
            split = [one.split(sizes) for one in (rows % block, *given)]
        for of_block, parts in zip(blocks, zip(*split, strict=True), strict=True):
            if len(parts[0]):
                of_block.append((name, parts))
    return blocks


def _changed(images: Tensor, drawn: _Drawn) -> Tensor:
    images = images.clone()  # it stays as it is, and a core's cache holds the copy
    for name, tensors in drawn:
        if name in _OF_ALL_IMAGES:
            images = _OF_ALL_IMAGES[name](images, *tensors)
            continue
        rows, *given = tensors
        if name in _ADDED_TO_SOME:
            added = _ADDED_TO_SOME[name](images, *given).expand(-1, images.shape[1], -1, -1)
            images.index_add_(0, rows, added.contiguous())  # six times as fast as strides of 0 on a CPU
        else:
            images.index_copy_(0, rows, _OF_SOME_IMAGES[name](images.index_select(0, rows), *given))
    return images
