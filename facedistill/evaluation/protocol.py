"""What a benchmark promises, and the kind made of pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol as StructuralType

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.images import ImageSet


class Protocol(StructuralType):
    """The rules of one benchmark: which faces to embed, and what to score of their embeddings."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def num_images(self) -> int:
        """M, the number of distinct faces."""
        ...

    def images(self, batch_size: int = 64) -> Iterator[Tensor]:
        """Each distinct face once, in order: uint8 (n, 3, 112, 112) RGB."""
        ...

    def score(self, embeddings: Tensor) -> Tensor:
        """The protocol's scores from (M, D) embeddings in the order of `images`."""
        ...


@dataclass(frozen=True, eq=False)
class PairsProtocol:
    """Pairs of faces, the same person or not, in folds: LFW, CFP, AgeDB-30, generated pairs.

    Attributes:
        name: What tables call it.
        image_set: M distinct faces.
        left: (P,) index in [0, M) of each pair's first face.
        right: (P,) index in [0, M) of each pair's second face.
        same: (P,) bool, true for genuine pairs.
        fold: (P,) integer fold of each pair.

    Raises:
        ValueError: If the four differ in length or an index leaves [0, M).
    """

    name: str
    image_set: ImageSet
    left: Tensor
    right: Tensor
    same: Tensor
    fold: Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.left), len(self.right), len(self.same), len(self.fold)}
        if len(lengths) != 1:
            raise ValueError(f"left, right, same, fold must be of one length, got {sorted(lengths)}")
        for index in (self.left, self.right):
            if ((index < 0) | (index >= self.num_images)).any():
                raise ValueError(f"{self.name}: a pair names an image outside [0, {self.num_images})")

    @property
    def num_images(self) -> int:
        """M, the number of distinct faces."""
        return len(self.image_set)

    def images(self, batch_size: int = 64) -> Iterator[Tensor]:
        """Each distinct face once, in order: uint8 (n, 3, 112, 112) RGB."""
        return self.image_set.batches(batch_size)

    def score(self, embeddings: Tensor) -> Tensor:
        """Cosine of each pair.

        Args:
            embeddings: (M, D) in the order of `images`, any norm.

        Returns:
            (P,) float32 in [-1, 1].

        Raises:
            DataError: If an embedding is not finite, as those of a diverged student are.
        """
        assert len(embeddings) == self.num_images, f"{len(embeddings)} embeddings of {self.num_images} images"
        broken = int((~torch.isfinite(embeddings).all(dim=1)).sum())
        if broken:
            raise DataError(
                f"{self.name}: {broken} of {len(embeddings)} embeddings are not finite; "
                "the network has diverged, take an earlier checkpoint"
            )
        unit = F.normalize(embeddings.float(), dim=1).cpu()
        return (unit[self.left] * unit[self.right]).sum(dim=1).clamp(-1, 1)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over faces, pairs and folds; equal protocols from a tar and from a folder agree."""
        digest = hashlib.sha256(self.image_set.fingerprint().encode())
        for values in (self.left, self.right, self.same, self.fold):
            digest.update(values.to(torch.int64).contiguous().numpy().tobytes())
        return digest.hexdigest()
