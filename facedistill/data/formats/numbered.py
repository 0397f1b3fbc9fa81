"""From a format's own labels to identities 0 … K - 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facedistill.errors import DataError

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


def labels_of(
    where: str, found: Sequence[int | str | None], names: Sequence[str] | None, names_from: str
) -> tuple[np.ndarray | None, list[str]]:
    """Numbers the labels of single images.

    Args:
        where: What to call the set in a message.
        found: (N,) labels as stored.
        names: Name of each number, where the set has them.
        names_from: Where these stand, for the message.

    Returns:
        As of `numbered`.

    Raises:
        DataError: If some images have no label, labels are of two kinds, or one has no name.
    """
    missing = found.count(None)
    if missing == len(found):
        return None, []
    if missing:
        raise DataError(
            f"{where}: {missing} of {len(found)} images have no label; label all, or none for an unlabeled set"
        )
    numbers = sum(type(label) is int for label in found)
    if 0 < numbers < len(found):
        raise DataError(
            f"{where}: {numbers} labels are numbers and {len(found) - numbers} are names; use one of the two"
        )
    if not numbers:
        return numbered(np.array(found))
    given = np.array(found, dtype=np.int64)
    if names and given.max() >= len(names):
        raise DataError(
            f"{where}: label {given.max()} is beyond the {len(names)} names of {names_from}; write the shards again, or "
            f"delete {names_from} if it belongs to another set"
        )
    return numbered(given, names or None)
