"""Thresholds for deciding whether two faces show the same person; they travel in the student's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from facedistill.errors import AssetError

KEY = "facedistill.thresholds"
"""Name of the list in the metadata of a student's files."""
FARS = (1e-3, 1e-2)
"""False accept rates for a decision, the first that was measured."""


@dataclass(frozen=True)
class Threshold:
    """A pair of faces whose cosine is >= `threshold` is accepted.

    Attributes:
        protocol: Where it was fitted.
        far: False accept rate, a fraction; the highest that the threshold may have on the protocol.
        threshold: The cosine.
        tar: True accept rate on the protocol, a fraction.
        tar_ci: 95 % interval of `tar`.
        genuine: Number of genuine pairs.
        impostor: Number of impostor pairs.
        flip: How the embeddings were made, see `facedistill.evaluation.embedder.embed`.
    """

    protocol: str
    far: float
    threshold: float
    tar: float
    tar_ci: tuple[float, float]
    genuine: int
    impostor: int
    flip: str = "none"


def thresholds_from_results(protocols: Mapping[str, Mapping[str, Any]]) -> list[Threshold]:
    """The thresholds of a network, in the order of its protocols.

    Args:
        protocols: Figures by protocol, as results.json has them. Protocols on templates (IJB) and searches (TinyFace)
            have no threshold for two single faces.

    >>> entry = {"tar": 0.9, "threshold": 0.4, "ci": [0.88, 0.92]}
    >>> figures = {"accuracy": 0.9, "genuine": 3000, "impostor": 3000, "tar": {"1e-3": entry, "1e-4": "not measurable"}}
    >>> [(one.protocol, one.far, one.threshold) for one in thresholds_from_results({"lfw": figures})]
    [('lfw', 0.001, 0.4)]
    """
    return [
        found
        for name, figures in protocols.items()
        if "accuracy" in figures and isinstance(rates := figures.get("tar"), Mapping)
        for far, entry in rates.items()
        if (found := _of_entry(name, far, entry, figures)) is not None
    ]


def default_threshold(thresholds: Iterable[Threshold], far: float | None = None) -> Threshold | None:
    """The threshold to decide by: of the protocol with the most impostor pairs, the stricter of two with equally many.

    Args:
        thresholds: Of one student.
        far: Its false accept rate; the first of `FARS` that was measured if None.

    Returns:
        None if there is none at this rate.
    """
    thresholds = list(thresholds)
    for wanted in FARS if far is None else (far,):
        fitting = [one for one in thresholds if abs(one.far - wanted) <= 1e-9 * wanted]
        if fitting:
            return max(fitting, key=lambda one: (one.impostor, one.threshold))
    return None


def format_thresholds(thresholds: Iterable[Threshold]) -> str:
    """The JSON list under `KEY`."""
    return json.dumps([asdict(one) for one in thresholds])


def parse_thresholds(metadata: Mapping[str, str], where: object) -> list[Threshold]:
    """Reads the thresholds from the metadata of a student's file; empty if it has none.

    Args:
        metadata: Of a .safetensors or .onnx file.
        where: The file, for the message.

    Raises:
        AssetError: If they are damaged.
    """
    try:
        return [_threshold(entry) for entry in json.loads(metadata.get(KEY, "[]"))]
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise AssetError(
            f"{where}: its metadata {KEY} is damaged; evaluate the run again, or export the student again"
        ) from error


def _threshold(entry: Mapping[str, Any]) -> Threshold:
    low, high = entry["tar_ci"]
    return Threshold(
        str(entry["protocol"]), float(entry["far"]), float(entry["threshold"]), float(entry["tar"]),
        (float(low), float(high)), int(entry["genuine"]), int(entry["impostor"]), str(entry.get("flip", "none")),
    )  # fmt: skip


def _of_entry(name: str, far: str, entry: Any, figures: Mapping[str, Any]) -> Threshold | None:
    """None where the rate was not measurable, or an edited file lacks a figure."""
    try:
        return _threshold({**figures, **entry, "protocol": name, "far": far, "tar_ci": entry["ci"]})
    except (KeyError, TypeError, ValueError):
        return None
