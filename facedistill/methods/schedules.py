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
    """Rises linearly over the first `warmup` fraction of the budget, then falls along half a cosine to `floor`.

    Args:
        warmup: Fraction of the budget, in [0, 1).
        floor: Factor at the end.
        start: Factor at step 0, from which it rises; 0 rises from 0, with at least 0.001 at every step.
        warmup_prefix: timm's word: true begins the cosine after the warm-up; false counts it from step 0, so that the
            factor falls at once to the cosine's value when the warm-up ends (GKD, released code).
    """

    def __init__(
        self, *, warmup: float = 0.05, floor: float = 0.0, start: float = 0.0, warmup_prefix: bool = True
    ) -> None:
        self.warmup = warmup
        self.floor = floor
        self.start = start
        self.warmup_prefix = warmup_prefix

    def __call__(self, images_seen: int, total_images: int) -> float:
        progress = min(1.0, images_seen / total_images)
        if progress < self.warmup:
            return max(self.start + (1 - self.start) * progress / self.warmup, self.start or 1e-3)
        begin = self.warmup if self.warmup_prefix else 0.0
        fall = (progress - begin) / max(1e-9, 1 - begin)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fall))


class Constant:
    """Leaves the learning rate as it is."""

    def __call__(self, images_seen: int, total_images: int) -> float:
        return 1.0
