"""Yaw of the faces of a protocol, for the accuracy by yaw of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from facedistill.assets import cache_dir, obtain, read_card
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import PairsProtocol, Protocol
from facedistill.evaluation.yaw import face_yaws, yaw_degrees
from facedistill.models.detectors.scrfd import Scrfd

_DETECTOR = "scrfd_500m"
_KEYS = ("protocol", "edges")


def yaw_settings(evaluation: DictConfig) -> tuple[str, list[float]] | None:
    """Protocol and edges in degrees of `evaluation.yaw`; None if accuracy by yaw, or no protocol at all, is measured.

    Raises:
        ConfigError: If a key is unknown, or the edges do not ascend within 0 and 90.
    """
    node = evaluation.get("yaw")
    if node is None:
        return None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"evaluation.yaw: expected keys ({', '.join(_KEYS)}) or null, got {node!r}")
    values: Mapping[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    if unknown := [key for key in values if key not in _KEYS]:
        raise ConfigError(f"evaluation.yaw.{unknown[0]}: unknown key; known: {', '.join(_KEYS)}")
    edges = [float(edge) for edge in values.get("edges", (0, 30, 45, 60, 75, 90))]
    if len(edges) < 2 or not all(0 <= low < high <= 90 for low, high in pairwise(edges)):
        raise ConfigError(f"evaluation.yaw.edges: must ascend within 0 and 90 degrees, got {edges}")
    return None if evaluation.get("protocols") == [] else (values.get("protocol", "cfp_fp"), edges)


def protocol_yaws(
    evaluation: DictConfig, opened: Sequence[Protocol]
) -> tuple[PairsProtocol, Tensor, list[float]] | None:
    """The protocol of `evaluation.yaw`, the yaw (M,) of its faces and the edges; None if it is not measured now.

    Raises:
        ConfigError: If the settings are wrong, or the protocol has no pairs of single faces.
        AssetError: If the detector cannot be obtained.
    """
    settings = yaw_settings(evaluation)
    protocol = next((one for one in opened if settings and one.name == settings[0]), None)
    if settings is None or protocol is None:
        return None
    if not isinstance(protocol, PairsProtocol):
        raise ConfigError(
            f"evaluation.yaw.protocol: {protocol.name} has no pairs of single faces; name cfp_fp"
        )
    card = read_card(_DETECTOR)
    detector = Scrfd(obtain(card))

    def estimate(face: Image.Image) -> float:
        faces = detector.find(face)
        return (
            yaw_degrees(np.asarray(faces.landmarks[faces.main(*face.size)])) if len(faces) else float("nan")
        )

    yaws = face_yaws(protocol, estimate, cache_dir() / "scores", card.members[0].sha256)
    return protocol, yaws, settings[1]
