"""From a format's own labels to identities 0 … K - 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LONGEST_NAME = 255
"""Characters of an identity's name: an array of names takes as much memory for each as for the longest."""


def numbered(found: np.ndarray, names: Sequence[str] | None = None) -> tuple[np.ndarray | None, list[str]]:
    """Numbers labels without gaps, in their order.

    Args:
        found: (N,) whole numbers from 0 on, or strings.
        names: Name of each number; the number itself when None.

    Returns:
        (N,) int64 labels and K names; None and no name when all images bear one label, because such a set
        says nothing about identity.
    """
    kept, labels = np.unique(found, return_inverse=True)
    if len(kept) < 2:
        return None, []
    identities = [str(label) if names is None else names[int(label)] for label in kept]
    return labels.astype(np.int64).reshape(-1), identities
