"""What every benchmark has, and benchmarks made of pairs."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.images import ArrayImages, ChangedImages, EncodedImages, ImageSet
from facedistill.evaluation.protocols.templates import pair_scores
from facedistill.metrics.verification import verification_summary

_ROWS_AT_ONCE = 2**13
_SAME_DIRECTION = 1e-6
_MIN_NORM = 1e-12

Flip: TypeAlias = Literal["none", "sum", "unit_sum", "both"]


@dataclass(frozen=True)
class PairScores:
    """Content of a score file: `score` (P,), `same` (P,) bool, `fold` (P,), all 0 in a protocol without folds."""

    score: Tensor
    same: Tensor
    fold: Tensor


@dataclass(frozen=True)
class ProtocolResult:
    """One entry of a results file, and the scores of its pairs if it has any."""

    figures: dict[str, Any]
    scores: PairScores | None = None


@dataclass(frozen=True, eq=False)
class Protocol(ABC):
    """The rules of one benchmark: which faces to embed, and what to measure from their embeddings.

    Attributes:
        name: Its name in tables.
        image_set: M distinct faces.
        flip: The flip that the protocol prescribes (IJB: `both`), or None to use the configured one.
    """

    name: str
    image_set: ImageSet
    flip: ClassVar[Flip | None] = None

    @property
    def num_images(self) -> int:
        """M, the number of distinct faces."""
        return len(self.image_set)

    def images(self, batch_size: int = 64, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each distinct face once, in order: uint8 (n, 3, 112, 112) RGB; only `indices` if given."""
        return self.image_set.batches(batch_size, indices)

    @abstractmethod
    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Figures from (M, D) embeddings in the order of `images`; IJB returns one entry per mode."""


class FolderLayout:
    """A benchmark in its published folder; to add one, define a subclass in this package.

    Attributes:
        name: Value of `evaluation.places.<protocol>.layout`.
        contents: Content of the folder, for the message that it is missing.
    """

    name: ClassVar[str]
    contents: ClassVar[str]

    @staticmethod
    def open(folder: Path, name: str) -> Protocol:
        """Opens the protocol `name` in `folder`."""
        raise NotImplementedError


def norms(embeddings: Tensor) -> Tensor:
    """(M,) norms, at least 1e-12 as in `F.normalize`."""
    return torch.cat([part.norm(dim=1) for part in embeddings.split(_ROWS_AT_ONCE)]).clamp_min(_MIN_NORM)


def checked_embeddings(name: str, embeddings: Tensor) -> Tensor:
    """(M, D) float32 on the CPU.

    Raises:
        DataError: If an embedding is not finite, as those of a diverged student are, or all M > 1 of them point in one
            direction or are zero, as those of a collapsed student do.
    """
    embeddings = embeddings.float().cpu()
    invalid = sum(int((~torch.isfinite(part).all(dim=1)).sum()) for part in embeddings.split(_ROWS_AT_ONCE))
    if invalid:
        raise DataError(
            f"{name}: {invalid} of {len(embeddings)} embeddings are not finite; "
            "the network has diverged, take an earlier checkpoint"
        )
    if len(embeddings) > 1 and _is_collapsed(embeddings):
        what = "point in one direction" if embeddings.any() else "are zero"
        raise DataError(
            f"{name}: all {len(embeddings)} embeddings {what}; the network has collapsed and tells no two faces apart, "
            "take an earlier checkpoint"
        )
    return embeddings


def _is_collapsed(embeddings: Tensor) -> bool:
    """Whether all directions are the first one's up to rounding."""
    first = F.normalize(embeddings[0], dim=0)
    return all(
        bool((F.normalize(part, dim=1) - first).abs().max() < _SAME_DIRECTION)
        for part in embeddings.split(_ROWS_AT_ONCE)
    )


@dataclass(frozen=True, eq=False)
class PairsProtocol(Protocol):
    """Genuine and impostor pairs in folds: LFW, CFP, AgeDB-30, generated pairs.

    Attributes:
        name: Its name in tables.
        image_set: M distinct faces.
        left: (P,) index in [0, M) of each pair's first face.
        right: (P,) index in [0, M) of each pair's second face.
        same: (P,) bool, true for genuine pairs.
        fold: (P,) integer fold of each pair.

    Raises:
        ValueError: If the four tensors differ in length or an index is outside [0, M).
    """

    image_set: EncodedImages | ArrayImages | ChangedImages
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

    def score(self, embeddings: Tensor) -> Tensor:
        """Cosine of each pair.

        Args:
            embeddings: (M, D) in the order of `images`, any norm.

        Returns:
            (P,) float32 in [-1, 1].

        Raises:
            DataError: If the embeddings cannot be measured, see `checked_embeddings`.
        """
        assert len(embeddings) == self.num_images, f"{len(embeddings)} embeddings of {self.num_images} images"
        embeddings = checked_embeddings(self.name, embeddings)
        return pair_scores(embeddings, self.left, self.right, norms(embeddings))

    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Verification figures, see `verification_summary`."""
        return {self.name: self.figures(self.score(embeddings), resamples=resamples)}

    def figures(self, score: Tensor, *, resamples: int) -> ProtocolResult:
        """Verification figures of (P,) scores."""
        summary = verification_summary(score, self.same, self.fold)
        return ProtocolResult(summary, PairScores(score, self.same, self.fold))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of faces, pairs and folds; the same for a tar and a folder of the same images."""
        digest = hashlib.sha256(self.image_set.fingerprint().encode())
        for values in (self.left, self.right, self.same, self.fold):
            digest.update(values.to(torch.int64).contiguous().numpy().tobytes())
        return digest.hexdigest()
