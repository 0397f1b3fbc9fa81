"""Accuracy of a network on the same pairs under each of several changes of the faces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages, ChangedImages
from facedistill.metrics.confidence import mean_interval
from facedistill.metrics.verification import accuracy_figures, tenfold_accuracy
from facedistill.models.counter_random import uniform

PLAIN = "plain"
"""Name of the faces as they are."""

Change = Callable[[Tensor, Tensor], Tensor]


def some_pairs(protocol: PairsProtocol, number: int | None, seed: int) -> PairsProtocol:
    """A part of a protocol, with its faces in memory.

    Args:
        protocol: The protocol; its P pairs have folds.
        number: Pairs at most, drawn evenly from every fold and both kinds; all if None.
        seed: The same seed draws the same pairs.
    """
    chosen = _drawn(protocol, number, seed)
    faces = torch.cat([protocol.left[chosen], protocol.right[chosen]]).unique()
    position = torch.full((protocol.num_images,), -1).index_put_((faces,), torch.arange(len(faces)))
    return PairsProtocol(
        name=protocol.name,
        image_set=ArrayImages(torch.cat(list(protocol.images(indices=faces.tolist())))),
        left=position[protocol.left[chosen]],
        right=position[protocol.right[chosen]],
        same=protocol.same[chosen],
        fold=protocol.fold[chosen],
    )


def changed_protocols(
    protocol: PairsProtocol, changes: Mapping[str, tuple[Change, str]]
) -> dict[str, PairsProtocol]:
    """The protocol under each change, and first as it is under the name `PLAIN`.

    Args:
        protocol: Of `some_pairs`.
        changes: By name the function, see `ChangedImages`, and a text with all that decides what it does.
    """
    assert isinstance(protocol.image_set, ArrayImages)
    images = protocol.image_set
    return {PLAIN: protocol} | {
        name: replace(protocol, name=f"{protocol.name}, {name}", image_set=ChangedImages(images, change, key))
        for name, (change, key) in changes.items()
    }


def fingerprint(protocols: Mapping[str, PairsProtocol]) -> str:
    """Sixteen hexadecimal digits that name the pairs, the faces and all changes."""
    parts = "".join(f"{name}{one.fingerprint}" for name, one in protocols.items())
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def robustness_figures(
    protocols: Mapping[str, PairsProtocol], score: Callable[[PairsProtocol], Tensor]
) -> dict[str, Any]:
    """Accuracy under each change.

    Args:
        protocols: Of `changed_protocols`.
        score: Computes the (P,) scores of a network.

    Returns:
        `protocol`, `pairs`, `genuine`, `impostor`, `faces`, `fingerprint`, and `conditions`: by name `accuracy` and
        `accuracy_ci` (the threshold is fitted under the same change on the other folds), and for changes `loss`,
        the accuracy lost to the change, with `loss_ci`, Student's t over the differences of the folds if they differ.
    """
    plain = protocols[PLAIN]
    genuine = int(plain.same.sum())
    return {
        "protocol": plain.name, "pairs": len(plain.same), "genuine": genuine, "impostor": len(plain.same) - genuine,
        "faces": plain.num_images, "fingerprint": fingerprint(protocols),
        "conditions": dict(_conditions(protocols, score)),
    }  # fmt: skip


def _conditions(
    protocols: Mapping[str, PairsProtocol], score: Callable[[PairsProtocol], Tensor]
) -> Iterator[tuple[str, dict[str, Any]]]:
    plain: Tensor | None = None
    for name, protocol in protocols.items():
        scores = score(protocol)
        figures = accuracy_figures(scores, protocol.same, protocol.fold)
        _, per_fold, _ = tenfold_accuracy(scores, protocol.same, protocol.fold)
        entry = {key: figures[key] for key in ("accuracy", "accuracy_ci")}
        if plain is None:
            plain = per_fold
        else:
            lost = plain - per_fold
            entry["loss"] = lost.mean().item()
            if lost.std() > 0:
                entry["loss_ci"] = list(mean_interval(lost))
        yield name, entry


def _drawn(protocol: PairsProtocol, number: int | None, seed: int) -> Tensor:
    """Positions of the pairs, ascending."""
    num_pairs = len(protocol.same)
    if number is None or number >= num_pairs:
        return torch.arange(num_pairs)
    order = uniform(seed, "robustness/pairs", torch.arange(num_pairs), 1)[:, 0].argsort(stable=True)
    cells = 2 * protocol.fold.long() + protocol.same.long()
    chosen = [mine[: max(1, number * len(mine) // num_pairs)] for mine in _split(order, cells[order])]
    return torch.cat(chosen).sort().values


def _split(values: Tensor, cells: Tensor) -> list[Tensor]:
    return [values[cells == cell] for cell in cells.unique()]
