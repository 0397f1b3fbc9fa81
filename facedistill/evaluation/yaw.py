"""Accuracy by the yaw of the faces, which a detector's landmarks tell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.metrics.confidence import jeffreys
from facedistill.metrics.verification import tenfold_accuracy
from facedistill.system.files import write_npz
from facedistill.system.progress import ProgressBar

_BATCH = 64


def yaw_degrees(landmarks: np.ndarray) -> float:
    """The yaw that five landmarks tell: atan(2 x the nose's distance from the middle of the eyes / the eyes' distance).

    Args:
        landmarks: (5, 2) eyes, nose's tip, mouth's corners in pixels; only the first three count.

    Returns:
        Degrees, positive where the nose points to the right of the image; rotation in the image has no influence.

    >>> round(yaw_degrees(np.array([[30.0, 50], [70, 50], [70, 70], [0, 0], [0, 0]])), 1)
    45.0
    """
    left, right, nose = landmarks[:3].astype(float)
    eyes = right - left
    distance = float(np.hypot(*eyes))
    offset = float((nose - (left + right) / 2) @ eyes) / max(distance, 1e-9)
    return math.degrees(math.atan2(2 * offset, distance))


def face_yaws(
    protocol: PairsProtocol, estimate: Callable[[Image.Image], float], cache: Path, key: str
) -> Tensor:
    """The yaw of every face of a protocol, from the cache where it was estimated before.

    Args:
        protocol: Provides M faces.
        estimate: Yaw of one face in degrees, NaN where none is found.
        cache: Folder of the file.
        key: Names the estimator.

    Returns:
        (M,) float64 degrees.

    Raises:
        UserError: If the file cannot be written.
    """
    name = hashlib.sha256(f"1/{key}/{protocol.fingerprint}".encode()).hexdigest()[:16]
    path = cache / f"yaw-{protocol.name}-{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yaws = torch.from_numpy(arrays["yaw"])
        if yaws.shape == (protocol.num_images,):
            return yaws
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    found: list[float] = []
    with ProgressBar(f"yaw of {protocol.name}", protocol.num_images) as progress:
        for faces in protocol.images(_BATCH):
            found += [estimate(Image.fromarray(face.permute(1, 2, 0).numpy())) for face in faces]
            progress.advance(len(faces))
    write_npz(path, yaw=np.array(found, dtype=np.float64))
    return torch.tensor(found, dtype=torch.float64)


def yaw_figures(
    score: Tensor, protocol: PairsProtocol, yaws: Tensor, edges: Sequence[float]
) -> dict[str, Any]:
    """Accuracy of the pairs in each bucket of yaw.

    Thresholds are those of the protocol's accuracy, fitted on all pairs of the other folds: a deployed system has one.

    Args:
        score: (P,) scores.
        protocol: The pairs.
        yaws: (M,) degrees; NaN where unknown.
        edges: Ascending degrees; a pair belongs to the bucket [low, high) of the larger |yaw| of its two faces.

    Returns:
        `protocol`; `unknown`, the number of pairs without an estimate or outside of all buckets; and `buckets`, a list of
        `low`, `high`, `genuine`, `impostor`, `accuracy`, `accuracy_ci` (Jeffreys), and the accepted fractions `tar`
        and `far`; without pairs of a kind, its figures are missing.
    """
    _, _, thresholds = tenfold_accuracy(score, protocol.same, protocol.fold)
    index = torch.searchsorted(protocol.fold.unique(), protocol.fold)
    accepted = score.double() >= thresholds[index]
    larger = torch.maximum(yaws[protocol.left].abs(), yaws[protocol.right].abs())  # NaN where one is
    buckets, counted = [], 0
    for low, high in pairwise(edges):
        mine = (larger >= low) & (larger < high)
        counted += int(mine.sum())
        buckets.append({"low": low, "high": high, **_bucket(accepted[mine], protocol.same[mine])})
    return {"protocol": protocol.name, "unknown": len(score) - counted, "buckets": buckets}


def _bucket(accepted: Tensor, same: Tensor) -> dict[str, Any]:
    genuine, impostor = accepted[same], accepted[~same]
    figures: dict[str, Any] = {"genuine": len(genuine), "impostor": len(impostor)}
    if len(same):
        right = int((accepted == same).sum())
        figures |= {"accuracy": right / len(same), "accuracy_ci": list(jeffreys(right, len(same)))}
    figures |= {"tar": genuine.double().mean().item()} if len(genuine) else {}
    return figures | ({"far": impostor.double().mean().item()} if len(impostor) else {})
