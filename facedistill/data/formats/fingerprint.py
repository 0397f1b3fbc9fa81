"""Sixteen digits that stand for the content of a face set, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

_SAMPLED_IMAGES = 256


def fingerprint_of(
    sizes: np.ndarray,
    labels: np.ndarray | None,
    identities: Sequence[str],
    encoded: Callable[[int], bytes],
) -> str:
    """Hashes every size and label, the identities' names, and every byte of 256 images spread over the set.

    Args:
        sizes: (N,) bytes of each encoded image.
        labels: (N,) identities or None.
        identities: (K,) names.
        encoded: The bytes of one image.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256(f"faces {len(sizes)} {labels is not None}\n".encode())
    digest.update(np.ascontiguousarray(sizes, "<i8").tobytes())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, "<i8").tobytes())
    digest.update("\n".join(identities).encode("utf-8", "surrogateescape"))
    for index in np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), _SAMPLED_IMAGES)).astype(np.int64)):
        digest.update(hashlib.sha256(encoded(int(index))).digest())
    return digest.hexdigest()[:16]


def with_bytes_id(fingerprint: str, bytes_id: str) -> str:
    """The fingerprint of a set whose every byte is known by a hash."""
    return hashlib.sha256(f"{fingerprint} {bytes_id}".encode()).hexdigest()[:16]
