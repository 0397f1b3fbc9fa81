"""What a page on many runs draws of each: rendered faces, score histograms, ROC; small enough for hundreds of runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facedistill.errors import DataError
from facedistill.reporting.numbers import cosine
from facedistill.reporting.pages import jpeg_uri
from facedistill.reporting.run.files import Faces, read_faces, read_scores
from facedistill.reporting.run.reduced import least_to_most, roc_steps

_FACES, _FACE_PX, _JPEG_QUALITY = 8, 80, 85
_BINS = 48
_MOST_STEPS = 120  # of a ROC: a chart is a few hundred pixels wide


@dataclass(frozen=True)
class RunPictures:
    """Pictures of one run; a part is empty where its file is missing or broken.

    Attributes:
        faces: `uri`, a JPEG of faces above their variations, and `caption`.
        scores: Of the student, by protocol: `low`, `high`, and densities `genuine`, `impostor` (48,) between.
        rocs: Of the student, by protocol: `far`, rising from `floor`, the lowest that its impostor pairs can measure,
            `tar`, constant from each FAR to the next, and `least`, the lowest measurable rate of false rejects.
        problems: One sentence for each broken file.
    """

    faces: Mapping[str, str] | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rocs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_pictures(folder: Path, protocols: Iterable[str]) -> RunPictures:
    """Reads faces.npz and the student's scores on each of `protocols`; a broken file becomes a sentence."""
    problems: list[str] = []
    faces: Faces | None = None
    try:
        faces = read_faces(folder / "faces.npz")
    except DataError as error:
        problems.append(str(error))
    scores: dict[str, dict[str, Any]] = {}
    rocs: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        try:
            found = read_scores(folder, protocol, "student")
        except DataError as error:
            problems.append(str(error))
            continue
        if found is not None:
            rising = np.sort(found.genuine), np.sort(found.impostor)
            scores[protocol], rocs[protocol] = score_histogram(*rising), _roc(*rising)
    drawn = _faces(faces) if faces is not None and len(faces.base) else None
    sentences = tuple(one.replace(f"{folder}{os.sep}", "").rstrip(".") + "." for one in problems)
    return RunPictures(drawn, scores, rocs, sentences)


def _faces(faces: Faces) -> dict[str, str]:
    """Eight faces from least to most agreement, each above its variation, in one JPEG."""
    chosen = least_to_most(faces.base_cosine, _FACES)
    rows = [
        np.concatenate([_small(images[k]) for k in chosen], axis=1)
        for images in (faces.base, faces.variation)
    ]
    least, most = (cosine(float(faces.base_cosine[k])) for k in (chosen[0], chosen[-1]))
    return {
        "uri": jpeg_uri(Image.fromarray(np.concatenate(rows)), quality=_JPEG_QUALITY),
        "caption": f"cosine of student and teacher from {least}, left, to {most}, right",
    }


def _small(image: np.ndarray) -> np.ndarray:
    drawn = Image.fromarray(image.transpose(1, 2, 0)).resize((_FACE_PX, _FACE_PX), Image.Resampling.LANCZOS)
    return np.asarray(drawn)


def score_histogram(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, Any]:
    """`low`, `high`, and the densities `genuine` and `impostor` (48,) between, of scores in any order."""
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    low, high = float(min(genuine[0], impostor[0])), float(max(genuine[-1], impostor[-1]))
    edges = np.linspace(low, max(high, low + 0.02), _BINS + 1)
    inner = edges[1:-1]
    densities = {}
    for kind, score in (("genuine", genuine), ("impostor", impostor)):
        counts = np.diff(np.searchsorted(score, inner), prepend=0, append=len(score))
        density = counts / len(score) / (edges[1] - edges[0])
        densities[kind] = [float(f"{value:.3g}") for value in density]
    return {"low": round(edges[0], 4), "high": round(edges[-1], 4), **densities}


def _roc(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, Any]:
    floor, least = 1 / len(impostor), 1 / len(genuine)
    far, tar = roc_steps(genuine, impostor, _MOST_STEPS)
    return {
        "floor": float(f"{floor:.4g}"),
        "least": float(f"{least:.4g}"),
        "far": [float(f"{value:.4g}") for value in far],
        "tar": [float(f"{value:.5g}") for value in tar],
    }
