"""What a benchmark promises, and the kind made of pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias
from typing import Protocol as StructuralType

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.images import ImageSet
from facedistill.metrics.verification import verification_summary

Flip: TypeAlias = Literal["none", "sum", "unit_sum", "both"]

_PAIRS_AT_ONCE = 2**14


@dataclass(frozen=True)
class PairScores:
    """What score files hold: `score` (P,), `same` (P,) bool, `fold` (P,); fold 0 throughout where there are none."""

    score: Tensor
    same: Tensor
    fold: Tensor


@dataclass(frozen=True)
class ProtocolResult:
    """One entry of a results file, and the pairs' scores behind it where it has any."""

    figures: dict[str, Any]
    scores: PairScores | None = None


class Protocol(StructuralType):
    """The rules of one benchmark: which faces to embed, and what to measure of their embeddings."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def num_images(self) -> int:
        """M, the number of distinct faces."""
        ...

    @property
    def flip(self) -> Flip | None:
        """The flip that the protocol itself prescribes (IJB: `both`), or None where the configuration says."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that decides the scores but the network."""
        ...

    def images(self, batch_size: int = 64, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each distinct face once, in order: uint8 (n, 3, 112, 112) RGB; only `indices` where given."""
        ...

    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Figures from (M, D) embeddings in the order of `images`; IJB gives one entry for each of its modes."""
        ...


class FolderLayout:
    """A benchmark in the folder in which it is published; a subclass in this package is all that a new one needs.

    Attributes:
        name: Value of `evaluation.places.<protocol>.layout`.
        contents: What the folder holds, for the message where it is missing.
    """

    name: ClassVar[str]
    contents: ClassVar[str]

    @staticmethod
    def open(folder: Path, name: str) -> Protocol:
        """Opens the protocol `name` in `folder`."""
        raise NotImplementedError


def checked_embeddings(name: str, embeddings: Tensor) -> Tensor:
    """(M, D) float32 on the CPU.

    Raises:
        DataError: If an embedding is not finite, as those of a diverged student are.
    """
    broken = int((~torch.isfinite(embeddings).all(dim=1)).sum())
    if broken:
        raise DataError(
            f"{name}: {broken} of {len(embeddings)} embeddings are not finite; "
            "the network has diverged, take an earlier checkpoint"
        )
    return embeddings.float().cpu()


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

    @property
    def flip(self) -> Flip | None:
        """None: the configuration says."""
        return None

    def images(self, batch_size: int = 64, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each distinct face once, in order: uint8 (n, 3, 112, 112) RGB; only `indices` where given."""
        return self.image_set.batches(batch_size, indices)

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
        unit = F.normalize(checked_embeddings(self.name, embeddings), dim=1)
        parts = zip(self.left.split(_PAIRS_AT_ONCE), self.right.split(_PAIRS_AT_ONCE), strict=True)
        return torch.cat([(unit[left] * unit[right]).sum(dim=1) for left, right in parts]).clamp(-1, 1)

    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Its verification figures, see `verification_summary`."""
        return {self.name: self.figures(self.score(embeddings), resamples=resamples)}

    def figures(self, score: Tensor, *, resamples: int) -> ProtocolResult:
        """Verification figures of (P,) scores."""
        summary = verification_summary(score, self.same, self.fold, resamples=resamples)
        return ProtocolResult(summary, PairScores(score, self.same, self.fold))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over faces, pairs and folds; equal protocols from a tar and from a folder agree."""
        digest = hashlib.sha256(self.image_set.fingerprint().encode())
        for values in (self.left, self.right, self.same, self.fold):
            digest.update(values.to(torch.int64).contiguous().numpy().tobytes())
        return digest.hexdigest()
