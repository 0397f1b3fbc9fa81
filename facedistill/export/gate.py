"""Compares an exported file with its student: embeddings, accuracy and TAR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facedistill.errors import UserError
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.export.parity import LEAST_COSINE
from facedistill.metrics.confidence import Interval, mean_interval
from facedistill.metrics.verification import tenfold_accuracy

LEAST_MEAN_COSINE = 0.98  # of a format that rounds, on faces
FAR = "1e-3"


@dataclass(frozen=True)
class Row:
    """An exported file on one set of faces.

    Attributes:
        name: Of the protocol, or "faces".
        pairs: Number of pairs; 0 for faces without pairs.
        mean_cosine: Mean of the cosines of both embeddings of each face.
        min_cosine: Least of them.
        accuracy: Of the student and of the exported file, fractions; None without pairs.
        tar: TAR at FAR 1e-3 of both; None where it is not measurable.
        loss: 95 % interval of the accuracy that the file loses, a fraction: Student's t over the differences of the folds.
    """

    name: str
    pairs: int
    mean_cosine: float
    min_cosine: float
    accuracy: tuple[float, float] | None = None
    tar: tuple[float, float] | None = None
    loss: Interval | None = None


def compare(
    student: nn.Module, exported: nn.Module, faces: Tensor, protocols: Sequence[PairsProtocol]
) -> list[Row]:
    """Embeds the same faces with both.

    Args:
        student: The trained network; it runs on the CPU in float32 and eval mode.
        exported: See `facedistill.export.formats.ExportedNetwork`.
        faces: (N, 3, H, W) in [-1, 1], embedded as one batch and one by one.
        protocols: Pairs to measure both on.
    """
    student = student.cpu().float().eval()
    with torch.inference_mode():
        expected = student(faces)
        one_by_one = torch.cat([exported(face) for face in faces.split(1)])
        cosines = torch.cat([_cosines(found, expected) for found in (exported(faces), one_by_one)])
    rows = [Row("faces", 0, float(cosines.mean()), float(cosines.min()))]
    for protocol in protocols:
        expected, found = (embed(network, protocol) for network in (student, exported))
        cosines = _cosines(found, expected)
        scores = [protocol.score(part) for part in (expected, found)]
        both = [protocol.figures(part, resamples=1).figures for part in scores]
        folds = [tenfold_accuracy(part, protocol.same, protocol.fold)[1] for part in scores]
        tars = [figures["tar"].get(FAR) for figures in both]
        rows.append(
            Row(
                protocol.name,
                len(protocol.same),
                float(cosines.mean()),
                float(cosines.min()),
                (both[0]["accuracy"], both[1]["accuracy"]),
                (tars[0]["tar"], tars[1]["tar"]) if all(isinstance(tar, dict) for tar in tars) else None,
                mean_interval(folds[0] - folds[1]),
            )
        )
    return rows


def check(
    path: Path,
    rows: Sequence[Row],
    *,
    is_exact: bool,
    allowed_loss: float,
    least_cosine: float = LEAST_COSINE,
) -> None:
    """Demands that the file embeds as its student.

    Args:
        path: Of the file, for the message.
        rows: Of `compare`.
        is_exact: Whether every cosine must be at least `least_cosine`, and not only the mean on faces high.
        allowed_loss: Of accuracy, as a fraction; a file that loses more is refused; the message names the interval of its loss.
        least_cosine: Of an exact format.

    Raises:
        UserError: If it does not, or a cosine is not a number.
    """
    for row in rows:
        cosine, least = (row.min_cosine, least_cosine) if is_exact else (row.mean_cosine, LEAST_MEAN_COSINE)
        if row.name == "faces" and not cosine >= least:
            raise UserError(
                f"{path.name} does not embed as its student does (cosine {cosine:.6f}, needed {least}); it was not kept"
            )
        if row.accuracy and not row.accuracy[0] - row.accuracy[1] <= allowed_loss:
            raise UserError(
                f"{path.name} has {100 * row.accuracy[1]:.2f} % on {row.name} where the student has "
                f"{100 * row.accuracy[0]:.2f} % (95 % interval of the loss: {_points(row.loss)} points); it was not kept; "
                f"--allowed-loss admits more than {100 * allowed_loss:g} points"
            )


def as_text(rows: Sequence[Row]) -> str:
    """A table for the terminal."""
    lines = [
        f"{'faces':12} {'pairs':>7} {'mean cosine':>12} {'min cosine':>11} {'accuracy, %':>16} "
        f"{'points lost':>15} {'TAR at 1e-3, %':>16}"
    ]
    for row in rows:
        figures = [
            "" if both is None else f"{100 * both[0]:.2f} > {100 * both[1]:.2f}"
            for both in (row.accuracy, row.tar)
        ]
        lines.append(
            f"{row.name:12} {row.pairs or '':>7} {row.mean_cosine:12.6f} {row.min_cosine:11.6f} "
            f"{figures[0]:>16} {_points(row.loss):>15} {figures[1]:>16}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _points(loss: Interval | None) -> str:
    return f"{100 * loss[0]:.2f} to {100 * loss[1]:.2f}" if loss else ""


def _cosines(found: Tensor, expected: Tensor) -> Tensor:
    return torch.cosine_similarity(found.double(), expected.double())
