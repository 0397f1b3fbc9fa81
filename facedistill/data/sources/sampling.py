"""Which images a step trains on: a function of (seed, step) and of nothing else.

No sampler state has to be saved, and the same global batches come back after any resume and on any number of
processes: the state of (seed, epoch, samples consumed) is the number of the step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from facedistill.errors import ConfigError


@dataclass(frozen=True)
class Balanced:
    """The identity-balanced part of each global batch (EKD, methods' section 2.3): P identities x K images.

    Attributes:
        identities: P, distinct identities per batch.
        images: K, images of each; an identity with fewer shows some twice, as in the released code.
    """

    identities: int = 8
    images: int = 4

    def __len__(self) -> int:
        return self.identities * self.images


class ShuffledOrder:
    """An endless stream of indices that holds every one of N exactly once per epoch.

    Args:
        count: N.
        seed: The run's seed; each epoch's order is drawn from (seed, name, epoch).
        name: Tells streams of one run apart.
    """

    def __init__(self, count: int, seed: int, name: str = "images") -> None:
        self.count = count
        self.seed = seed
        self.name = name
        self._kept: dict[int, np.ndarray] = {}

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Indices (n,) in [0, N) at `positions` (n,) >= 0 of the stream."""
        epochs, offsets = np.divmod(positions, self.count)
        indices = np.empty(len(positions), dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            indices[chosen] = self._epoch(int(epoch))[offsets[chosen]]
        return indices

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._kept:
            order = drawn_from(self.seed, f"{self.name}/{epoch}").permutation(self.count)
            self._kept = {key: value for key, value in self._kept.items() if key == epoch - 1}
            self._kept[epoch] = order.astype(np.int32 if self.count < 2**31 else np.int64)
        return self._kept[epoch]


class BatchPlan:
    """The global batch of every step: images of the whole set first, then the balanced part.

    Args:
        num_images: N.
        labels: (N,) identities in [0, K); only needed for a balanced part.
        seed: The run's seed.
        balanced: The balanced part, or None.

    Raises:
        ConfigError: If a batch wants more identities than there are, or labels that there are not.
    """

    def __init__(
        self, num_images: int, labels: np.ndarray | None, *, seed: int, balanced: Balanced | None = None
    ) -> None:
        self.seed = seed
        self.balanced = balanced
        self.images = ShuffledOrder(num_images, seed)
        if balanced is None:
            return
        if labels is None:
            raise ConfigError(
                "data.source.balanced: needs identity labels, and these faces have none; set it to null"
            )
        self._by_identity = np.argsort(labels, kind="stable")
        self._starts = np.searchsorted(labels[self._by_identity], np.arange(labels.max() + 2))
        num_identities = len(self._starts) - 1
        if balanced.identities > num_identities:
            raise ConfigError(
                f"data.source.balanced.identities={balanced.identities}: the set has {num_identities} "
                "identities; ask for fewer"
            )
        self._whole = num_identities // balanced.identities * balanced.identities
        self._identities = ShuffledOrder(num_identities, seed, "identities")

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The global batch of one step.

        Returns:
            Indices (batch_size,) in [0, N), and which of them (batch_size,) bool belong to the balanced part;
            None where there is none, or nothing else.

        Raises:
            ConfigError: If the balanced part does not fit in the batch.
        """
        extra = len(self.balanced) if self.balanced else 0
        general = batch_size - extra
        if self.balanced is not None and general < 0:
            raise ConfigError(
                f"data.batch_size={batch_size}: is smaller than the balanced part of "
                f"{self.balanced.identities} x {self.balanced.images} images; raise it to {extra} or more"
            )
        indices = self.images.take(step * general + np.arange(general))
        if self.balanced is None:
            return indices, None
        part = np.concatenate([indices, self._balanced_part(step)])
        return part, (np.arange(batch_size) >= general) if general else None

    def _balanced_part(self, step: int) -> np.ndarray:
        assert self.balanced is not None
        wanted, images = self.balanced.identities, self.balanced.images
        epoch, offset = divmod(step * wanted, self._whole)  # no batch holds an identity twice
        chosen = self._identities.take(epoch * self._identities.count + offset + np.arange(wanted))
        draw = drawn_from(self.seed, f"balanced/{step}")
        picked = []
        for identity in chosen:
            own = self._by_identity[self._starts[identity] : self._starts[identity + 1]]
            repeats = -(-images // len(own))
            picked.append(np.concatenate([draw.permutation(own) for _ in range(repeats)])[:images])
        return np.concatenate(picked)


def drawn_from(seed: int, stream: str) -> np.random.Generator:
    """A generator of random numbers that depends on (seed, stream) only, on every machine."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))
