"""What an audit found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedistill.data.formats.face_set import FaceSet
from facedistill.system.files import write_atomically

DUPLICATE_COSINE = 0.95  # the same photograph, or nearly


@dataclass(frozen=True)
class Audit:
    """The nearest training image of every benchmark image.

    Attributes:
        threshold: Teacher cosine from which on a match is taken for the same person.
        benchmark_indices: (M,) positions of the readable benchmark images.
        cosine: (M,) of the nearest training image, in [-1, 1].
        match: (M,) its position in the training set.
        num_train: Training images that were compared.
        unreadable: One sentence for each image, of either set, that could not be read and was left out.
    """

    threshold: float
    benchmark_indices: np.ndarray
    cosine: np.ndarray
    match: np.ndarray
    num_train: int
    unreadable: list[str]

    @property
    def leaks(self) -> np.ndarray:
        """Rows whose cosine reaches the threshold, the nearest first."""
        order = np.argsort(-self.cosine, kind="stable")
        return order[self.cosine[order] >= self.threshold]

    @property
    def duplicates(self) -> int:
        """Benchmark images whose match is nearly the same picture (cosine >= 0.95)."""
        return int((self.cosine >= DUPLICATE_COSINE).sum())


def matched_identities(found: Audit, train: FaceSet) -> list[str]:
    """Names of the training identities that a match points to; empty for an unlabeled set."""
    if train.labels is None:
        return []
    return [train.identities[k] for k in np.unique(train.labels[found.match[found.leaks]])]


def write_json(path: Path, found: Audit, train: FaceSet, benchmark: FaceSet) -> None:
    matches = [
        {
            "cosine": round(float(found.cosine[row]), 4),
            "benchmark": benchmark.where(int(found.benchmark_indices[row])),
            "train": train.where(int(found.match[row])),
            "train_index": int(found.match[row]),
        }
        for row in found.leaks.tolist()
    ]
    content = {
        "threshold": found.threshold,
        "benchmark_images": len(found.cosine),
        "train_images": found.num_train,
        "matches": matches,
        "train_identities": matched_identities(found, train),
        "unreadable": found.unreadable,
    }
    write_atomically(path, json.dumps(content, indent=1))
