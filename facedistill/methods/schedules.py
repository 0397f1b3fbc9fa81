"""Learning-rate schedules as factors of progress, counted in images and not in steps or epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Schedule(Protocol):
    """A factor on the initial learning rate."""

    def __call__(self, images_seen: int, total_images: int) -> float:
        """Returns the factor at `images_seen` of a budget of `total_images`."""
        ...


class StepDecay:
    """Multiplies by `gamma` every `every_images` images (SynthDistill: StepLR, 10 epochs of 2.0 M images, 0.5)."""

    def __init__(self, *, every_images: int, gamma: float) -> None:
        self.every_images = every_images
        self.gamma = gamma

    def __call__(self, images_seen: int, total_images: int) -> float:
        return self.gamma ** (images_seen // self.every_images)


class MultiStep:
    """Multiplies by `gamma` at each of the fractions `at` of the budget (EKD: 10, 18 and 22 of 26 epochs, 0.1)."""

    def __init__(self, *, at: Sequence[float], gamma: float) -> None:
        self.at = tuple(at)
        self.gamma = gamma

    def __call__(self, images_seen: int, total_images: int) -> float:
        return self.gamma ** sum(images_seen >= fraction * total_images for fraction in self.at)


class WarmupCosine:
    """Rises linearly over the first `warmup` fraction of the budget, then falls along half a cosine to `floor`."""

    def __init__(self, *, warmup: float = 0.05, floor: float = 0.0) -> None:
        self.warmup = warmup
        self.floor = floor

    def __call__(self, images_seen: int, total_images: int) -> float:
        progress = min(1.0, images_seen / total_images)
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        fall = (progress - self.warmup) / max(1e-9, 1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fall))


class Constant:
    """Leaves the learning rate as it is."""

    def __call__(self, images_seen: int, total_images: int) -> float:
        return 1.0
