"""The decision thresholds that an exported student carries, one per protocol and FAR at which it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.errors import AssetError, UserError

THRESHOLDS_KEY = "facedistill.thresholds"  # metadata entry of safetensors and ONNX files alike


@dataclass(frozen=True)
class Threshold:
    """Two faces are of one person if the cosine of their embeddings is at least `threshold`.

    Attributes:
        protocol: The benchmark that it was fitted on.
        far: The fraction of impostor pairs accepted there.
        threshold: Cosine, [-1, 1].
        tar: The fraction of genuine pairs accepted there; None where it is not known.
        genuine: Number of genuine pairs.
        impostor: Number of impostor pairs.
    """

    protocol: str
    far: float
    threshold: float
    tar: float | None = None
    genuine: int = 0
    impostor: int = 0


def parse_thresholds(metadata: Mapping[str, str], path: Path) -> tuple[Threshold, ...]:
    """The thresholds in a file's metadata; none in a file that was not evaluated.

    Raises:
        AssetError: If the entry cannot be read.
    """
    try:
        found = [
            Threshold(
                str(entry["protocol"]),
                float(entry["far"]),
                float(entry["threshold"]),
                None if entry.get("tar") is None else float(entry["tar"]),
                int(entry.get("genuine") or 0),
                int(entry.get("impostor") or 0),
            )
            for entry in json.loads(metadata.get(THRESHOLDS_KEY, "[]"))
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AssetError(
            f"{path}: its thresholds cannot be read; fit them again with `facedistill evaluate`"
        ) from error
    return tuple(found)


def choose_threshold(
    thresholds: Sequence[Threshold], far: float, protocol: str | None = None
) -> Threshold | None:
    """The threshold at a FAR; of several protocols, that with the most impostor pairs.

    Args:
        thresholds: Of a student.
        far: False accept rate, a fraction.
        protocol: Only of this one.

    Returns:
        None if `thresholds` is empty.

    Raises:
        UserError: If there are thresholds and none for this FAR and protocol.
    """
    if not thresholds:
        return None
    matching = [
        one
        for one in thresholds
        if abs(one.far - far) <= 1e-6 * far and (protocol is None or one.protocol == protocol)
    ]
    if not matching:
        where = "" if protocol is None else f" on {protocol}"
        known = "; ".join(
            f"{name}: {', '.join(f'{one.far:g}' for one in thresholds if one.protocol == name)}"
            for name in dict.fromkeys(one.protocol for one in thresholds)
        )
        raise UserError(
            f"far={far:g}: no threshold is known at this FAR{where}; the model has {known}; or give a threshold"
        )
    return max(matching, key=lambda one: one.impostor)
